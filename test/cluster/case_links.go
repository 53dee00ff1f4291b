package main

import (
	"slices"
	"sync"
	"time"

	"mayfly/test/cluster/lan"
)

// badLinks: frames that are lost in one direction, by chance, or late. A node that is only hard to reach is not dead.
func badLinks(t *trial) error {
	if err := t.flowing(200); err != nil {
		return err
	}
	nodes, long := names(t.nodes), pick(t, 10*time.Second, 60*time.Second)
	for _, phase := range []struct {
		name string
		do   func()
	}{
		{"one_way", func() { t.net.Set("n1", "n2", lan.Fault{Block: true}) }},
		{"loss_20", func() { t.net.Between(nodes, nodes, lan.Fault{Loss: 0.2}) }},
		{"delay_200", func() {
			t.net.Between(nodes, append([]string{brokerHost}, nodes...), lan.Fault{Delay: 200 * time.Millisecond})
		}},
		{"loss_20_broker", func() { t.net.Between(nodes, []string{brokerHost}, lan.Fault{Loss: 0.2}) }},
	} {
		before := len(t.broker.Log())
		phase.do()
		deaths := t.deaths(long)
		t.net.Heal()
		t.figures[phase.name+"_false_deaths"] = float64(deaths)
		if deaths > 0 {
			t.noted("%s: %d false deaths, and %d lines more in the broker's log", phase.name, deaths, len(t.broker.Log())-before)
		}
		if err := t.together(time.Minute, t.nodes...); err != nil {
			return err
		}
		t.flow.mark()
		if _, err := t.through(time.Minute); err != nil {
			return err
		}
	}
	t.settle(90 * time.Second)
	return nil
}

// deaths counts for a while how often a node takes another one that lives for dead.
func (t *trial) deaths(long time.Duration) (n int) {
	var mu sync.Mutex
	var viewers sync.WaitGroup
	end := time.Now().Add(long)
	for _, v := range t.nodes {
		viewers.Go(func() {
			dead := map[string]bool{}
			for time.Now().Before(end) && t.ctx.Err() == nil {
				alive, err := v.sees()
				for _, m := range t.nodes {
					was := dead[m.id]
					if dead[m.id] = err == nil && !slices.Contains(alive, m.id); dead[m.id] && !was {
						mu.Lock()
						n++
						mu.Unlock()
					}
				}
				t.sleep(250 * time.Millisecond)
			}
		})
	}
	viewers.Wait()
	return n
}
