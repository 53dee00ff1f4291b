package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Refresher is something that was read from files and can be read again. Refresh looks whether they changed; after an error what was read
// before stays in force.
type Refresher interface {
	Refresh() (changed bool, err error)
}

const lookEvery = 5 * time.Second // at files that may have changed

// watched is what was last read from some files.
type watched[T any] struct {
	files []string
	load  func() (T, error)
	value atomic.Pointer[T]

	mu   sync.Mutex
	seen string // how the files looked when they were last read, or could not be
}

// watch reads the files.
func watch[T any](files []string, load func() (T, error)) (*watched[T], error) {
	w := &watched[T]{files: files, load: load, seen: appearance(files)}
	v, err := load()
	w.value.Store(&v)
	return w, err
}

func (w *watched[T]) get() T { return *w.value.Load() }

// refresh reads the files again if they look different. A fault is told once. It looks before it reads: what is written meanwhile is
// found the next time.
func (w *watched[T]) refresh() (changed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := appearance(w.files)
	if now == w.seen {
		return false, nil
	}
	w.seen = now
	v, err := w.load()
	if err == nil {
		w.value.Store(&v)
	}
	return err == nil, err
}

// appearance changes when a file is written or another takes its place.
func appearance(files []string) (s string) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			s += "none;"
			continue
		}
		inode := uint64(0)
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = st.Ino
		}
		s += fmt.Sprintf("%d %d %v %d;", info.Size(), info.ModTime().UnixNano(), info.Mode(), inode)
	}
	return s
}

// refresh looks at what was read from files, until ctx ends.
func (g *Gateway) refresh(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range g.c.Refresh {
			switch changed, err := r.Refresh(); {
			case err != nil:
				g.c.Log.Error("a file changed and cannot be read; what was in it before stays in force", "err", err)
			case changed:
				g.c.Log.Info("a file changed and was read again", "what", fmt.Sprintf("%T", r))
			}
		}
	}
}

// Certificate is the gateway's own, and the authority of its callers'. It is read again when a file changed: connections that are made
// from then on see the new one.
type Certificate struct{ files *watched[*tls.Config] }

// LoadCertificate reads PEM files. callers is the authority that client certificates are checked against, "" = none are asked for.
func LoadCertificate(cert, key, callers string) (*Certificate, error) {
	files := []string{cert, key}
	if callers != "" {
		files = append(files, callers)
	}
	w, err := watch(files, func() (*tls.Config, error) { return tlsConfig(cert, key, callers) })
	if err != nil {
		return nil, configError(cert, err, "")
	}
	return &Certificate{w}, nil
}

// Config returns what a server needs, now and later.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.files.get(), nil },
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { // never asked: it tells net/http that there is one
			return &c.files.get().Certificates[0], nil
		},
	}
}

// Refresh implements Refresher.
func (c *Certificate) Refresh() (changed bool, err error) { return c.files.refresh() }

func tlsConfig(cert, key, callers string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{pair}}
	if callers == "" {
		return t, nil
	}
	pem, err := os.ReadFile(callers)
	if err != nil {
		return nil, err
	}
	t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New(callers + ": no certificate in it")
	}
	t.SessionTicketsDisabled = true // a resumed session would not be checked against an authority that changed
	return t, nil
}
