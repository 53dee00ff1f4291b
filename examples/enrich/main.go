// Enrich adds to a JSON reading where it came from and when, and how it ranks.
//
//	In:  plant/{line}/raw       {"machine":"press-3","t":91.2}
//	Out: plant/{line}/readings  {"level":"high","line":"7","machine":"press-3","received":"...","site":"north","t":91.2}
//
// Settings: site; high, the reading "t" from which level is "high" rather than "normal".
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"mayfly/sdk/go/mayfly"
	"strconv"
)

//go:wasmexport mayfly_handle
func handle() int32 { return mayfly.Run(enrich) }

func main() {}

func enrich(e *mayfly.Event) error {
	var reading map[string]any
	if err := json.Unmarshal(e.Data(), &reading); err != nil || reading == nil {
		return mayfly.Reject(errors.Join(errors.New("the reading is not a JSON object"), err))
	}
	line := e.Attr("topic.line")
	reading["line"] = line
	reading["received"] = e.Attr("time")
	if site, err := mayfly.Config("site"); err == nil {
		reading["site"] = site
	}
	if err := rank(reading); err != nil {
		return err
	}
	out, err := json.Marshal(reading)
	if err != nil {
		return mayfly.Reject(err)
	}
	return mayfly.Publish("plant/"+line+"/readings", out, mayfly.QoS1)
}

// rank sets level by the setting high; without it, or without a reading "t", there is no level.
func rank(reading map[string]any) error {
	text, err := mayfly.Config("high")
	if errors.Is(err, mayfly.Absent) {
		return nil
	}
	high, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return mayfly.Reject(fmt.Errorf("setting high: %w", err))
	}
	if t, ok := reading["t"].(float64); ok {
		reading["level"] = "normal"
		if t >= high {
			reading["level"] = "high"
		}
	}
	return nil
}
