package main

import (
	"fmt"
	"os"
	"strings"

	"mayfly/admin"
	"mayfly/internal/tomlcheck"
)

// prices turn usage into money. The file is TOML; what it does not say costs nothing.
type prices struct {
	Currency   string  `json:"currency" required:"true" doc:"Shown behind sums: currency = \"EUR\"."`
	MillionOf  float64 `json:"per_million_events" min:"0" doc:"Of a million events, failed ones included."`
	CPUHour    float64 `json:"per_cpu_hour" min:"0" doc:"Of an hour of processor time."`
	GiBHour    float64 `json:"per_gib_hour" min:"0" doc:"Of a GiB of sandbox memory for an hour."`
	GiBIn      float64 `json:"per_gib_in" min:"0" doc:"Of a GiB of events read."`
	GiBOut     float64 `json:"per_gib_out" min:"0" doc:"Of a GiB published and answered."`
	StoredMiB  float64 `json:"per_mib_stored" min:"0" doc:"Of a MiB handed to the disk."`
	MinimumSum float64 `json:"minimum" min:"0" doc:"What the whole costs at least."`
}

// readPrices reads a price file. The error shows every fault with its place.
func readPrices(file string) (*prices, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &usageError{text: err.Error(), hint: "a price file says: currency = \"EUR\", per_million_events = 0.2, per_cpu_hour = 0.05"}
	}
	p := &prices{}
	r := tomlcheck.New(p)
	r.Read(file, text)
	r.Finish()
	if len(p.Currency) > 8 || strings.ContainsFunc(p.Currency, func(c rune) bool { return c <= ' ' }) {
		r.Fault("currency", fmt.Sprintf("%q is no currency", p.Currency), `write it like "EUR"; at most 8 letters`)
	}
	if faults := r.Err(); faults != nil {
		return nil, &usageError{text: faults.Error()}
	}
	return p, nil
}

const (
	hourNS = 3600e9
	gib    = 1 << 30
)

// gibHours is memory-time in the unit it is paid in.
func gibHours(s *admin.UsageSum) float64 { return float64(s.MemoryByteMS) / gib / 3.6e6 }

// cost is what s costs, without the minimum.
func (p *prices) cost(s *admin.UsageSum) float64 {
	return float64(s.Events)/1e6*p.MillionOf + float64(s.CPUNS)/hourNS*p.CPUHour + gibHours(s)*p.GiBHour +
		float64(s.BytesIn)/gib*p.GiBIn + float64(s.BytesOut)/gib*p.GiBOut + float64(s.StoredBytes)/(1<<20)*p.StoredMiB
}

// money shows a sum. Small ones keep digits that say something.
func (p *prices) money(x float64) string {
	if x != 0 && x < 0.01 {
		return fmt.Sprintf("%.6f %s", x, p.Currency)
	}
	return fmt.Sprintf("%.2f %s", x, p.Currency)
}
