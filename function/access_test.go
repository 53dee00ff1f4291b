package function

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{"10/s": {10, time.Second}, "600/m": {600, time.Minute}, "1_000/h": {1000, time.Hour}, "1000000/s": {1_000_000, time.Second}} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "10", "/s", "10/", "10/d", "0/s", "-1/s", "1.5/s", "1000001/s", "10/s ", "s/10", "99999999999999999999/s"} {
		if got, err := ParseRate(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
	if text := (Rate{}).String(); text != "" {
		t.Errorf("no limit is written %q", text)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := Rate{rapid.IntRange(1, maxRate).Draw(t, "count"), rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "per")}
		text, err := want.MarshalText()
		var got Rate
		if err != nil || got.UnmarshalText(text) != nil || got != want {
			t.Fatalf("%s is read as %+v", text, got)
		}
	})
}
