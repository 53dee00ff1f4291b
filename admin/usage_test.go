package admin

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// idle is a ledger in which there is nothing; it says how it was asked.
type idle struct{ asked *UsageQuery }

func (i idle) Usage(_ context.Context, q UsageQuery) (UsageReport, error) {
	*i.asked = q
	return UsageReport{}, nil
}

func (idle) VerifyUsage(context.Context) (UsageVerification, error) { return UsageVerification{}, nil }

func TestUsageRequests(t *testing.T) {
	var asked UsageQuery
	s, err := NewServer(Config{}, Backend{Meter: idle{&asked}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for body, by := range map[string]string{`{}`: "day", `{"by":"hour","function":"f"}`: "hour", `{"by":"month","cluster":true}`: "month"} {
		w := ask(t, s, "POST /v1/usage", body)
		if w.Code != http.StatusOK || w.Body.String() != `{"rows":[],"missing":[],"away":[]}`+"\n" || asked.By != by {
			t.Errorf("%s: %d %s, asked %+v", body, w.Code, w.Body, asked)
		}
	}
	for _, body := range []string{``, `{"by":"week"}`, `{"since":"6h"}`, `{"from":"yesterday"}`} {
		if w := ask(t, s, "POST /v1/usage", body); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	none, err := NewServer(Config{}, Backend{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{"POST /v1/usage": `{}`, "GET /v1/usage/verify": ""} {
		if w := ask(t, none, path, body); w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), KindUnsupported) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
