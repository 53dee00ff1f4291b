// Command clusterdemo shows three agents becoming one system on this machine, and that nothing is missing when one of them is killed
// while readings flow. It starts a real mosquitto and three mayflyd in a temporary directory; with --once it ends by itself and fails
// if a reading is lost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"mayfly/admin"
	"mayfly/internal/mosquitto"
)

func main() {
	once := flag.Bool("once", false, "kill one node, check that nothing is missing, and end")
	bin := flag.String("bin", "bin", "directory of mayflyd and mayfly")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *once); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "cluster demo:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, once bool) error {
	dir, err := os.MkdirTemp("", "mayfly-cluster-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	broker, err := mosquitto.New(dir, mosquitto.Options{MaxQueued: -1})
	if err != nil {
		return err
	}
	if err := broker.Start(); err != nil {
		return err
	}
	defer broker.Kill()
	fmt.Printf("$ mosquitto                                   listens on %s\n", broker.Addr())
	s := &site{bin: bin, dir: dir, broker: broker.Addr()}
	defer s.stop()
	for range 3 {
		if err := s.add(); err != nil {
			return err
		}
	}
	if err := s.form(ctx); err != nil {
		return err
	}
	return s.show(ctx, once)
}

// form makes one cluster of the three and deploys a function to it, with the commands a person would type.
func (s *site) form(ctx context.Context) error {
	first := s.nodes[0]
	if err := s.say(ctx, first, "init", "--cluster", "demo"); err != nil {
		return err
	}
	if err := first.ready(ctx); err != nil {
		return err
	}
	token, err := first.client.CreateToken(ctx, admin.TokenRequest{TTLMS: time.Hour.Milliseconds(), Uses: 2})
	if err != nil {
		return err
	}
	fmt.Printf("n1$ mayfly token create --uses 2\n    %.24s...\n", token.Token)
	for _, n := range s.nodes[1:] {
		if err := s.say(ctx, n, "join", token.Token, "--via", first.calls); err != nil {
			return err
		}
		if err := n.ready(ctx); err != nil {
			return err
		}
	}
	if err := s.together(ctx); err != nil {
		return err
	}
	for _, verb := range [][]string{{"nodes", "ls"}, {"deploy", filepath.Join("examples", "overheat")}} {
		if err := s.say(ctx, first, verb...); err != nil {
			return err
		}
	}
	return s.say(ctx, first, "explain", "fn", "overheat")
}

// together waits until every node sees all three, by name.
func (s *site) together(ctx context.Context) error {
	return eventually(ctx, 30*time.Second, "the nodes do not all see each other", func() bool {
		for _, n := range s.nodes {
			all, err := n.client.Nodes(ctx)
			if err != nil || len(all) != len(s.nodes) {
				return false
			}
			for _, m := range all {
				if m.State != admin.MemberAlive || m.Version == "" {
					return false
				}
			}
		}
		return true
	})
}

// show lets readings flow, kills the node that handles them, and counts what came out.
func (s *site) show(ctx context.Context, once bool) error {
	owner, err := s.settled(ctx)
	if err != nil {
		return err
	}
	var witness *node
	for _, n := range s.nodes {
		if n != owner {
			witness = n
		}
	}
	fmt.Printf("\nReadings flow in, 50 a second. %s has the trigger; %s listens to what comes out.\n", owner.name, witness.name)
	f, err := begin(ctx, witness)
	if err != nil {
		return err
	}
	defer f.end()
	if err := f.flow(ctx, 3*time.Second); err != nil {
		return err
	}
	fmt.Printf("\n$ kill -9 %s                                   after %d readings, all of them answered: %v\n", owner.name, f.sent, f.missing() == 0)
	owner.kill()
	killed := time.Now()
	next, err := f.untilAnswered(ctx, 60*time.Second)
	if err != nil {
		return err
	}
	if err := f.flow(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := f.settle(ctx, 30*time.Second); err != nil {
		return err
	}
	after, err := s.owner(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s took over; the first reading after the kill was answered %.1f s after it.\n", after.name, next.Sub(killed).Seconds())
	fmt.Printf("%d readings sent, %d missing, %d answered twice (at least once, [D4]).\n", f.sent, f.missing(), f.twice())
	if f.missing() > 0 {
		return fmt.Errorf("%d readings were lost", f.missing())
	}
	if !once {
		fmt.Printf("\nThe others go on. Try in another terminal, in this directory:\n  export MAYFLY_SOCKET=%s\n  bin/mayfly nodes ls\n  bin/mayfly explain fn overheat\nCtrl-C stops it all.\n", witness.socket)
		<-ctx.Done()
	}
	return nil
}

// settled returns the owner when it has been the same for a while: right after a deployment the trigger moves to the node it belongs to.
func (s *site) settled(ctx context.Context) (*node, error) {
	owner, err := s.owner(ctx)
	for since := time.Now(); err == nil && time.Since(since) < 5*time.Second; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		var now *node
		if now, err = s.owner(ctx); now != owner {
			owner, since = now, time.Now()
		}
	}
	return owner, err
}

// eventually waits until ok.
func eventually(ctx context.Context, patience time.Duration, what string, ok func() bool) error {
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			return errors.New(what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
