package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"mayfly/event"
)

// router measures how long it takes to find the triggers that want an event, among a thousand that are deployed: of a plant as one names its
// topics, and of filters with wildcards at any level, which lead the search everywhere. Beside it, every filter is tried.
func (b *bench) router() error {
	for _, site := range []struct {
		name    string
		filters []string
		topics  []string
	}{
		{"plant", plantFilters(), plantTopics()},
		{"wildcards everywhere", wildFilters(), wildTopics()},
	} {
		index, entries := event.NewIndex(filed(site.filters)), filed(site.filters)
		into := make([]int, 0, len(entries))
		found, scanned := 0, 0
		matched := b.each(site.topics, func(topic string) {
			into = index.Match(topic, into[:0])
			found += len(into)
		})
		tried := b.each(site.topics, func(topic string) {
			for i := range entries {
				if event.MatchFilter(entries[i].Filter, topic) {
					scanned++
				}
			}
		})
		if found != scanned || found == 0 {
			return fmt.Errorf("%s: the index finds %d, trying every filter %d", site.name, found, scanned)
		}
		b.add(fmt.Sprintf("match among %d triggers, %s", len(entries), site.name), matched, "us", tried, limit{atMost: 2})
	}
	return nil
}

// each returns how many microseconds do takes for a topic, in the median of rounds over all of them.
func (b *bench) each(topics []string, do func(topic string)) float64 {
	const rounds = 25
	took := make([]float64, rounds)
	for i := range took {
		began := time.Now()
		for _, topic := range topics {
			do(topic)
		}
		took[i] = float64(time.Since(began).Nanoseconds()) / 1e3 / float64(len(topics))
	}
	return median(took)
}

func filed(filters []string) []event.Entry[int] {
	entries := make([]event.Entry[int], len(filters))
	for i, f := range filters {
		entries[i] = event.Entry[int]{Filter: f, Value: i}
	}
	return entries
}

func plantTopics() []string {
	topics := make([]string, 1000)
	for i := range topics {
		topics[i] = fmt.Sprintf("plant/%d/machine/%d/temp", i%40, i/40)
	}
	return topics
}

// plantFilters are those of the topics, a tenth of them for one machine of every line and a tenth for everything of a line.
func plantFilters() []string {
	filters := plantTopics()
	for i := range filters {
		switch i % 10 {
		case 0:
			filters[i] = fmt.Sprintf("plant/+/machine/%d/temp", i/40)
		case 1:
			filters[i] = fmt.Sprintf("plant/%d/#", i%40)
		}
	}
	return filters
}

const (
	wildLevels = 6
	wildNames  = 8 // of a level
)

func wildTopics() []string { return wild(0) }

// wildFilters have a wildcard at every third level.
func wildFilters() []string { return wild(1.0 / 3) }

func wild(wildcards float64) []string {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same filters in every run
	all := make([]string, 1000)
	for i := range all {
		levels := make([]string, wildLevels)
		for j := range levels {
			levels[j] = fmt.Sprint("n", random.IntN(wildNames))
			if random.Float64() < wildcards {
				levels[j] = "+"
			}
		}
		all[i] = strings.Join(levels, "/")
	}
	return all
}
