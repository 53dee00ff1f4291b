package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/test/torture/register"
)

// How many call at once, every other one over HTTP, the rest through the operator's door; and how many registers come with each death.
const (
	clients  = 6
	perRound = 5
)

// linearizable: clients read, write and swap registers in a function's state while the agent is killed. What they saw must be
// what one copy of the state would have said, calls without an answer having happened or not.
func linearizable(t *trial) error {
	door, err := freeAddress()
	if err != nil {
		return err
	}
	guests := []deploy{{name: "relay", guest: "relay"}, {name: "register", guest: "register", state: true, silent: true}}
	if err := t.begin(world{guests: guests, config: fmt.Sprintf("[gateway]\nlisten = %q\n", door)}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	c := &calls{t: t, history: register.New(), url: "http://" + door + "/fn/register", http: &http.Client{Timeout: 5 * time.Second}}
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() { c.client(ctx, i) })
	}
	for range pick(t.workshop, 12, max(20, int(60*t.minutes))) {
		t.sleep(t.between(50*time.Millisecond, 500*time.Millisecond))
		if err = t.agent.kill(); err == nil {
			err = t.again()
		}
		if err != nil {
			break
		}
		c.round.Add(1)
	}
	cancel()
	running.Wait()
	if err != nil {
		return err
	}
	return errors.Join(c.judge(), t.settle())
}

// calls are what the clients share.
type calls struct {
	t       *trial
	history *register.History
	url     string
	http    *http.Client
	round   atomic.Int64
	last    atomic.Int64 // the value written last; no two are the same
	fresh   atomic.Int64 // the next client's number
}

// client makes one call after the other. After one without an answer it is somebody else: that call may still be underway.
func (c *calls) client(ctx context.Context, nth int) {
	rng := rand.New(rand.NewPCG(c.t.seed, uint64(nth)))
	self := int(c.fresh.Add(1))
	seen := map[int]int64{}
	for ctx.Err() == nil {
		// A register lives for two rounds, so one death: each call without an answer may fall anywhere behind it, which multiplies the
		// orders that are to be looked at.
		call := register.Call{Op: register.Get, Register: (int(c.round.Load())+rng.IntN(2))*perRound + rng.IntN(perRound)}
		switch rng.IntN(3) {
		case 0:
			call.Op, call.A = register.Put, c.last.Add(1)
		case 1:
			call.Op, call.A, call.B = register.Swap, seen[call.Register], c.last.Add(1)
		}
		if value, known := c.make(ctx, self, nth%2 == 0, call); known {
			seen[call.Register] = value
		} else {
			self = int(c.fresh.Add(1))
			c.t.sleep(150 * time.Millisecond) // it is starting: every further call without an answer makes judging harder
		}
	}
}

func (c *calls) make(ctx context.Context, client int, overHTTP bool, call register.Call) (value int64, known bool) {
	end := c.history.Begin(client, call)
	var answer []byte
	var err error
	if overHTTP {
		answer, err = c.post(ctx, call.Text())
	} else {
		answer, err = c.invoke(ctx, call.Text())
	}
	fate := register.Lost
	switch {
	case err == nil && len(answer) == 8:
		value, fate = int64(binary.LittleEndian.Uint64(answer)), register.Answered
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		fate = register.Unmade
	}
	end(value, fate)
	return value, fate == register.Answered
}

func (c *calls) post(ctx context.Context, text string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader([]byte(text)))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func (c *calls) invoke(ctx context.Context, text string) ([]byte, error) {
	ran, err := c.t.agent.client.Invoke(ctx, "register", admin.InvokeRequest{
		Topic: "registers", Body: admin.NewBody([]byte(text)),
	})
	if err == nil && (ran.Response == nil || ran.Error != nil) {
		err = fmt.Errorf("no answer: %s", ran.Failure)
	}
	if err != nil {
		return nil, err
	}
	return ran.Response.Bytes(), nil
}

// judge reads every register once more and looks for an order that explains everything.
func (c *calls) judge() error {
	for r := range (int(c.round.Load()) + 2) * perRound {
		if _, known := c.make(c.t.ctx, int(c.fresh.Add(1)), false, register.Call{Op: register.Get, Register: r}); !known {
			return fmt.Errorf("register %d cannot be read", r)
		}
	}
	made, unknown := c.history.Count()
	c.t.notes = append(c.t.notes, fmt.Sprintf("%d calls on registers, %d of them without an answer", made, unknown))
	if made-unknown < 200 {
		return errors.New("too few calls were answered to say anything")
	}
	return c.history.Check(20 * time.Second)
}
