package main

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// picky may run where the label says only, one call at a time, and takes its time.
var picky = guest{
	name: "picky", source: "test/cluster/guests/answer.c",
	more: "[placement]\nrequire = [\"label:gpio\"]\n[[trigger.http]]\nroute = \"GET /picky\"\nauth = \"public\"\n[config]\nwork_ms = 300\n",
}

// gateways: any node's gateway answers for a function that one node alone may run, says why when that one is full, and when it is gone.
func gateways(t *trial) error {
	if err := t.world(3); err != nil {
		return err
	}
	only, err := t.add("gpio")
	if err != nil {
		return err
	}
	if err := errors.Join(only.ready(), t.unite(t.nodes)); err != nil {
		return err
	}
	if err := errors.Join(t.deploy(t.nodes[0], picky), t.deployed(picky.name, 10*time.Second, t.nodes...)); err != nil {
		return err
	}
	for _, n := range t.nodes {
		var code int
		var text string
		err := t.until(10*time.Second, func() bool {
			code, text = n.page()
			return code == http.StatusOK
		})
		if err != nil || text != only.name {
			return fmt.Errorf("the gateway of %s: %d %q instead of the answer of %s", n.name, code, text, only.name)
		}
	}
	if err := t.crowded(only); err != nil {
		return err
	}
	return t.gone(only)
}

// page asks this node's gateway from outside for the function of one node.
func (n *node) page() (code int, text string) {
	return n.get(n.t.lab, n.host.Address+":"+gatewayPort, "/picky")
}

// crowded asks for much more than the one node can do: it is refused with a reason, and nothing else happens.
func (t *trial) crowded(only *node) error {
	const callers = 150
	var served, busy, other atomic.Int64
	var odd atomic.Value
	var all sync.WaitGroup
	for i := range callers {
		n := t.nodes[i%(len(t.nodes)-1)]
		all.Go(func() {
			switch code, text := n.page(); code {
			case http.StatusOK:
				served.Add(1)
			case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusGatewayTimeout:
				busy.Add(1)
				odd.CompareAndSwap(nil, fmt.Sprintf("refused with %d %s", code, text))
			default:
				other.Add(1)
				odd.Store(fmt.Sprintf("answered with %d %s", code, text))
			}
		})
	}
	all.Wait()
	t.figures["crowd_served"], t.figures["crowd_refused"], t.figures["crowd_else"] = float64(served.Load()), float64(busy.Load()), float64(other.Load())
	t.noted("of %d at once, %s: %v", callers, only.name, odd.Load())
	if other.Load() > 0 {
		t.fault("%d callers got neither an answer nor a refusal with a reason", other.Load())
	}
	if served.Load() == 0 {
		t.fault("nobody was served while many asked")
	}
	return nil
}

// gone kills the one node while it works: who waits is told, soon, and so is who asks afterwards.
func (t *trial) gone(only *node) error {
	type answer struct {
		code int
		text string
		took time.Duration
	}
	waiting := make(chan answer)
	began := time.Now()
	go func() {
		code, text := t.nodes[1].page()
		waiting <- answer{code, text, time.Since(began)}
	}()
	t.sleep(100 * time.Millisecond)
	if err := only.kill(); err != nil {
		return err
	}
	got := <-waiting
	t.figures["died_meanwhile_ms"] = float64(got.took.Milliseconds())
	t.noted("it died meanwhile: %d %s", got.code, got.text)
	if got.code < 500 || got.code > 599 {
		t.fault("the caller whose function died with its node got %d %s", got.code, got.text)
	}
	began = time.Now()
	code, text := t.nodes[0].page()
	t.figures["gone_ms"] = float64(time.Since(began).Milliseconds())
	t.noted("it is gone: %d %s", code, text)
	if code != http.StatusServiceUnavailable && code != http.StatusBadGateway && code != http.StatusGatewayTimeout {
		t.fault("with the only node gone the gateway says %d %s", code, text)
	}
	return nil
}
