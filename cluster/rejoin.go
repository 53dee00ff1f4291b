package cluster

import (
	"context"
	"math/rand/v2"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	rejoinEvery = 15 * time.Second // and half of it more or less
	rejoinOdds  = 3.0              // how many members of a pool try in one round
	rejoinFirst = 8                // peers tried at once in the beginning, and after waking up
	catchUp     = 3 * time.Second  // and up to twice that
	saveEvery   = time.Minute
	saveAlways  = 24 * time.Hour // what changes slowly: how long peers are missing
)

// rejoin looks for peers that are missing, for ever: memberlist never does. Every member tries now and then, with a probability
// that makes it a few tries in each round whatever the size of the pool. moved says that the others may believe that we are elsewhere.
func (c *Cluster) rejoin(ctx context.Context, list *memberlist.Memberlist, moved bool) {
	var here insistence
	if moved {
		here.begin()
	}
	c.joinSome(ctx, list, rejoinFirst, c.peers.missing(c.view.has))
	signal(c.returned) // look again soon: when a whole site starts at once it starts in pieces
	saved, savedAll := time.Now(), time.Now()
	for {
		began := time.Now()
		why := c.pause(ctx, here.pause(rejoinEvery/2+rand.N(rejoinEvery)))
		if ctx.Err() != nil {
			return
		}
		c.peers.missed(c.view.has, time.Since(began))
		if why == doubted {
			here.begin()
		}
		if here.on() {
			c.insist(ctx, list)
		}
		switch why {
		case doubted: // insisted on above
		case woken:
			// Whom we believe to be live may have given us up: ask one of those too.
			c.joinSome(ctx, list, rejoinFirst, append(c.peers.missing(c.view.has), c.peers.missing(nobody)...))
		case returned:
			// Some came back and others did not: those we live with may know them. A full exchange is sooner here
			// than its turn, which is a minute away, six at 300 members.
			if missing := c.peers.missing(c.view.has); len(missing) > 0 {
				c.joinSome(ctx, list, 1, c.peers.missing(func(name string) bool { return !c.view.has(name) }))
				c.joinSome(ctx, list, 1, missing)
			}
		case due:
			if rand.Float64() < rejoinOdds/float64(c.view.count()) {
				c.joinSome(ctx, list, 1, c.peers.missing(c.view.has))
			}
		}
		if time.Since(saved) >= saveEvery {
			all := time.Since(savedAll) >= saveAlways
			if all {
				savedAll = time.Now()
			}
			saved = time.Now()
			c.save(all)
		}
	}
}

// reason is why a round of rejoining takes place.
type reason int

const (
	due      reason = iota
	woken           // somebody asked for it
	returned        // a peer that was missing is live again
	doubted         // somebody believes that we are elsewhere
)

// pause waits for the next round and says why it came.
func (c *Cluster) pause(ctx context.Context, most time.Duration) reason {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-c.wake:
		return woken
	case <-c.doubt:
		return doubted
	case <-c.returned:
		sleep(ctx, catchUp+rand.N(catchUp)) // the rest may be on its way
		return returned
	}
	return due
}

func nobody(string) bool { return false }

// joinSome tries candidates until one answers, at most so many.
func (c *Cluster) joinSome(ctx context.Context, list *memberlist.Memberlist, most int, candidates []candidate) {
	for i, p := range candidates {
		if i == most || ctx.Err() != nil {
			return
		}
		addrs, err := resolve(ctx, p.addr)
		if err != nil {
			c.log.Debug("the address of a peer is not known now", "peer", p.name, "addr", p.addr, "error", err)
			continue
		}
		for j := range addrs {
			addrs[j] = p.name + "/" + addrs[j] // memberlist's form of an address with a name
		}
		if n, err := list.Join(addrs); n > 0 {
			return
		} else if p.missing < time.Hour {
			c.log.Debug("a peer cannot be joined by now", "peer", p.name, "addr", p.addr, "error", err)
		}
	}
}

// resolve makes "ip:port" of "host:port"; a name may have several. memberlist would ask the first name server for everything
// it knows, over TCP.
func resolve(ctx context.Context, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) != nil {
		return []string{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, ip := range ips[:min(len(ips), 4)] {
		all = append(all, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return all, nil
}

func (c *Cluster) loadPeers() {
	if c.config.Store == nil {
		return
	}
	b, err := c.config.Store.LoadPeers()
	if err == nil {
		err = c.peers.load(b)
	}
	if err != nil {
		c.log.Warn("peers met before are not remembered; the configured ones are tried", "error", err)
	}
}

func (c *Cluster) savePeers() { c.save(false) }

func (c *Cluster) save(all bool) {
	b, err := c.peers.save(all)
	if b != nil && c.config.Store != nil && err == nil {
		err = c.config.Store.SavePeers(b)
	}
	if err != nil {
		c.peers.unsaved()
		c.log.Warn("peers cannot be saved; after a restart the node may not find them", "error", err)
	}
}
