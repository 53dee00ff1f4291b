package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"mayfly/test/torture/faultlink"
	"mayfly/test/torture/history"
	"mayfly/test/torture/sender"
)

// flow is events that are sent, numbered in each of some streams, and what is heard of their effects.
type flow struct {
	log    *history.Log
	sender *sender.Sender
	end    context.CancelFunc
	tasks  sync.WaitGroup
	rate   atomic.Int64 // events a second; 0 = pause
	broken atomic.Pointer[error]

	mu     sync.Mutex
	names  []string          // of the streams to send events of
	next   map[string]uint32 // sent last
	marked map[string]uint32 // what had been sent at the mark
	after  bool              // the effect of an event sent after the mark was seen
	last   time.Time         // when the last effect was new
	gap    time.Duration     // longest time without a new effect since the mark
}

// keys are the streams of one function.
const keys = 16

// newFlow connects the witness and begins to send events of functions to the broker.
func newFlow(ctx context.Context, seed uint64, functions ...string) (*flow, error) {
	f := &flow{log: history.New(), next: map[string]uint32{}, marked: map[string]uint32{}}
	f.aim(functions...)
	ctx, f.end = context.WithCancel(ctx)
	conn, in, err := listen(ctx, brokerAddress, "out/#")
	if err != nil {
		f.end()
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	f.log.Watch(f.saw)
	f.sender = sender.New(brokerAddress, 256, f.log)
	f.tasks.Go(func() {
		if err := hear(conn, in, f.heard); ctx.Err() == nil {
			f.broken.Store(&err)
		}
	})
	f.tasks.Go(func() { f.sender.Run(ctx) })
	f.tasks.Go(func() { f.send(ctx, rand.New(rand.NewPCG(seed, 7))) })
	return f, nil
}

// send publishes events at the rate, until ctx ends.
func (f *flow) send(ctx context.Context, rng *rand.Rand) {
	due := time.Now()
	for ctx.Err() == nil {
		rate := f.rate.Load()
		if wait := time.Until(due); rate == 0 || wait > 0 {
			if rate == 0 {
				due = time.Now()
			}
			select {
			case <-time.After(max(wait, time.Millisecond)):
			case <-ctx.Done():
			}
			continue
		}
		if due = due.Add(time.Second / time.Duration(rate)); time.Since(due) > 50*time.Millisecond {
			due = time.Now() // what could not be sent in time is not made up for
		}
		f.mu.Lock()
		name := f.names[rng.IntN(len(f.names))]
		f.next[name]++
		seq := f.next[name]
		f.mu.Unlock()
		_, key, _ := strings.Cut(name, "/")
		if f.sender.Send(ctx, history.Event{Stream: name, Seq: seq}, sender.Payload(key, seq)) != nil {
			return
		}
	}
}

// heard is called for every effect.
func (f *flow) heard(topic string, payload []byte) {
	if seq, ok := faultlink.Seq(payload); ok {
		e := history.Event{Stream: strings.TrimPrefix(topic, "out/"), Seq: seq}
		f.log.Note(e, history.Published)
		f.log.Note(e, history.Confirmed)
	}
}

// saw is called with the history's lock held.
func (f *flow) saw(e history.Event, s history.Sight) {
	if s != history.Confirmed {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.gap, f.last = max(f.gap, now.Sub(f.last)), now
	f.after = f.after || e.Seq > f.marked[e.Stream]
}

// mark begins to watch for an interruption.
func (f *flow) mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.marked, f.next)
	f.after, f.gap, f.last = false, 0, time.Now()
}

// through says whether an event that was sent after the mark has had its effect, and how long the longest interruption was.
func (f *flow) through() (interrupted time.Duration, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.gap, time.Since(f.last)), f.after
}

// waiting counts what has no effect yet, and says since when nothing was new.
func (f *flow) waiting() (n int, since time.Time) {
	n, since = f.log.Waiting(history.Sent, history.Confirmed)
	return n + f.sender.Unacknowledged(), since
}

func (f *flow) close() {
	f.log.Freeze()
	f.end()
	f.tasks.Wait()
}

// listen subscribes to a filter with QoS 1.
func listen(ctx context.Context, addr, filter string) (net.Conn, *bufio.Reader, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(conn)
	c := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	c.ProtocolName, c.ProtocolVersion, c.CleanSession = "MQTT", 4, true
	c.ClientIdentifier = fmt.Sprintf("witness-%d", time.Now().UnixNano())
	s := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	s.MessageID, s.Topics, s.Qoss = 1, []string{filter}, []byte{1}
	if err := errors.Join(conn.SetDeadline(time.Now().Add(5*time.Second)), c.Write(conn), s.Write(conn)); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	for range 2 {
		switch p, err := packets.ReadPacket(in); p := p.(type) {
		case *packets.ConnackPacket, *packets.SubackPacket:
		default:
			return nil, nil, errors.Join(fmt.Errorf("the broker answers %v: %w", p, err), conn.Close())
		}
	}
	return conn, in, conn.SetDeadline(time.Time{})
}

// hear calls each for every message and acknowledges it, until the connection ends; it returns why.
func hear(conn net.Conn, in *bufio.Reader, each func(topic string, payload []byte)) error {
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			return err
		}
		m, ok := p.(*packets.PublishPacket)
		if !ok {
			continue
		}
		each(m.TopicName, m.Payload)
		if m.Qos == 0 {
			continue
		}
		ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
		ack.MessageID = m.MessageID
		if err := ack.Write(conn); err != nil {
			return err
		}
	}
}
