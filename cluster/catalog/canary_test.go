package catalog

import (
	"reflect"
	"testing"
	"time"

	"mayfly/function"
)

func amended(t testing.TB, c *Catalog, f *function.Function, canary *function.Canary) *function.Function {
	t.Helper()
	out, err := c.Amend(t.Context(), f.Name(), f.Version, func(f *function.Function) { f.Canary = canary })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A version on trial is part of its function's record: it is there after a restart, stays when the function is paused, and ends with a
// deployment, also of what is deployed already.
func TestCanaryIsInTheRecord(t *testing.T) {
	m := newMemory()
	c := open(t, m)
	old, err := c.Put(t.Context(), makeFunction(t, "a", ""))
	if err != nil {
		t.Fatal(err)
	}
	trial := makeFunction(t, "a", "")
	trial.Manifest.Version, trial.Trial = "2.0.0", true
	since := time.Now().UTC().Truncate(time.Millisecond)
	amended(t, c, old, &function.Canary{Function: &trial, Since: since, Rules: function.DefaultCanary()})
	if _, err := c.SetPaused(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	f, ok := open(t, m).Get("a")
	if !ok || f.Canary == nil || !f.Canary.Since.Equal(since) || !reflect.DeepEqual(f.Canary.Function.Manifest, trial.Manifest) || f.Canary.Rules != function.DefaultCanary() ||
		!f.Canary.Function.Trial || !f.Canary.Function.Paused || f.Canary.Function.Version == f.Version || f.Deployed != old.Deployed {
		t.Fatalf("after a restart it is %+v, beside it %+v", f, f.Canary)
	}
	again := makeFunction(t, "a", "")
	again.Paused = true
	if f, err := c.Put(t.Context(), again); err != nil || f.Canary != nil {
		t.Errorf("deployed again it is %+v, %v", f, err)
	}
}

// Who looked at another version than there is now changes nothing, and neither does a version on trial that may not be deployed.
func TestAmendRefuses(t *testing.T) {
	c := open(t, newMemory())
	old, err := c.Put(t.Context(), makeFunction(t, "a", ""))
	if err != nil {
		t.Fatal(err)
	}
	now, err := c.SetPaused(t.Context(), "a", true)
	if err != nil {
		t.Fatal(err)
	}
	never := func(*function.Function) { t.Error("it was changed") }
	if _, err := c.Amend(t.Context(), "a", old.Version, never); function.KindOf(err) != "conflict" || function.ClassOf(err) != function.ClassReject {
		t.Error(err)
	}
	if _, err := c.Amend(t.Context(), "b", old.Version, never); function.KindOf(err) != "conflict" {
		t.Error(err)
	}
	stranger := makeFunction(t, "b", "")
	_, err = c.Amend(t.Context(), "a", now.Version, func(f *function.Function) {
		f.Canary = &function.Canary{Function: &stranger, Since: time.Now(), Rules: function.DefaultCanary()}
	})
	if err == nil {
		t.Error("a version of another function is on trial")
	}
	if f, _ := c.Get("a"); f.Version != now.Version || f.Canary != nil {
		t.Errorf("it is %+v", f)
	}
}
