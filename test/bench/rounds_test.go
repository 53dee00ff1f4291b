package main

import (
	"errors"
	"slices"
	"testing"
)

func TestTurnsTakeTurns(t *testing.T) {
	var order []string
	r, err := turns([]string{"a", "b"}, 3, func(who string) (string, int, error) {
		order = append(order, who)
		return who, len(order), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"b", "a", "a", "b", "b", "a", "a", "b"}; !slices.Equal(order, want) {
		t.Errorf("measured in the order %q, wanted %q", order, want)
	}
	if len(r["a"]) != 3 || !slices.Equal(r["b"], []int{4, 5, 8}) {
		t.Errorf("%v: wanted three rounds of each, without the first", r)
	}
	broken := errors.New("broken")
	if _, err := turns([]string{"a"}, 3, func(who string) (string, int, error) { return who, 0, broken }); !errors.Is(err, broken) {
		t.Errorf("%v: wanted the first failure", err)
	}
}

// A machine that is slow for some rounds makes both slow: the ratio does not move, which that of the medians would.
func TestRatioIsOfARound(t *testing.T) {
	r := rounds[float64]{"ours": {100, 10, 100, 10, 11}, "theirs": {200, 20, 200, 20, 22}}
	c := r.versus("ours", "theirs", func(v float64) float64 { return v })
	if c.ratio != 0.5 || c.rounds != 5 || c.value != 11 || c.baseline != 22 {
		t.Errorf("%+v", c)
	}
}
