package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/admin"
	"mayfly/event"
)

var errEnough = errors.New("seen enough")

func TestSubscribe(t *testing.T) {
	c, _, _ := door(t, admin.Config{}, fake().Backend(), nil)
	ctx := t.Context()
	if err := c.Publish(ctx, admin.Message{Topic: "plant/7/state", Retain: true, Body: admin.NewBody([]byte("on"))}); err != nil {
		t.Fatal(err)
	}
	var seen []string
	err := c.Subscribe(ctx, admin.SubscribeQuery{Filter: "plant/#"}, func(f admin.Frame[admin.Received]) error {
		if f.Ready {
			return c.Publish(ctx, admin.Message{Topic: "plant/7/temp", QoS: 1, Body: admin.NewBody([]byte("91"))})
		}
		seen = append(seen, fmt.Sprint(f.Record.Topic, f.Record.Retained, string(f.Record.Body.Bytes())))
		if len(seen) == 2 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) || strings.Join(seen, " ") != "plant/7/statetrueon plant/7/tempfalse91" {
		t.Fatalf("%v: %q", err, seen)
	}
	for _, bad := range []admin.Message{{Topic: "a/+"}, {}, {Topic: "a", QoS: 2}} {
		if err := c.Publish(ctx, bad); kind(err) != admin.KindInvalid {
			t.Errorf("publish %+v: %v", bad, err)
		}
	}
	if err := c.Subscribe(ctx, admin.SubscribeQuery{Filter: "a#"}, nil); kind(err) != admin.KindInvalid {
		t.Errorf("bad filter: %v", err)
	}
}

// The reader of a subscription sleeps while 64 MiB are published: publishing goes on, and the reader is told the rest.
func TestSlowReaderNeverHoldsUpTheAgent(t *testing.T) {
	a := fake()
	_, socket, _ := door(t, admin.Config{}, a.Backend(), nil)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query := `{"filter":"#","qos":0}`
	fmt.Fprintf(conn, "POST /v1/subscribe HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(query), query)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(resp.Body) // closing it would wait for its end; closing the connection ends it
	next := func() (f admin.Frame[admin.Received]) {
		if err := d.Decode(&f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if !next().Ready {
		t.Fatal("the first frame is not the one that says the subscription stands")
	}
	const messages = 1000
	payload := bytes.Repeat([]byte("x"), 64<<10)
	for range messages { // would hang here if the reader could hold it up
		if err := a.Publish(t.Context(), event.Message{Topic: "t", Data: payload}); err != nil {
			t.Fatal(err)
		}
	}
	var seen, dropped uint64
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for seen+dropped < messages {
		f := next()
		if f.Record != nil {
			seen++
		}
		dropped += f.Dropped
	}
	if dropped == 0 || seen == 0 || seen+dropped != messages {
		t.Fatalf("%d seen, %d dropped of %d", seen, dropped, messages)
	}
}

func TestLogsAndEvents(t *testing.T) {
	a := fake()
	c, _, _ := door(t, admin.Config{}, a.Backend(), nil)
	for _, l := range []string{"debug", "info", "warn", "error"} {
		a.LogLines.Add(admin.LogRecord{Time: noon, Function: "f", Level: l, Text: l + " line"})
	}
	var got []string
	err := c.Logs(t.Context(), admin.LogQuery{Level: "warn"}, func(f admin.Frame[admin.LogRecord]) error {
		if f.Record != nil {
			got = append(got, f.Record.Text)
		}
		return nil
	})
	if err != nil || strings.Join(got, ",") != "warn line,error line" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := c.Logs(t.Context(), admin.LogQuery{Level: "loud"}, nil); kind(err) != admin.KindInvalid {
		t.Fatalf("bad level: %v", err)
	}
	err = c.Events(t.Context(), admin.EventQuery{Follow: true}, func(f admin.Frame[admin.EventRecord]) error {
		if f.Ready {
			a.Stories.Add(admin.EventRecord{ID: "live"})
			return nil
		}
		if f.Record.ID != "live" {
			t.Errorf("record %+v", f.Record)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

func TestStopEndsStreams(t *testing.T) {
	c, _, stop := door(t, admin.Config{}, fake().Backend(), nil)
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- c.Logs(context.Background(), admin.LogQuery{Follow: true}, func(f admin.Frame[admin.LogRecord]) error {
			if f.Ready {
				close(ready)
			}
			return nil
		})
	}()
	<-ready
	began := time.Now()
	stop()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stopping took %v with one stream open", took)
	}
	if err := <-ended; err != nil {
		t.Errorf("the stream must end with its last line: %v", err)
	}
}
