package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// lines makes records of the lines memberlist logs. What a stranger can cause with every packet is limited to a few lines a minute.
type lines struct {
	log *slog.Logger

	mu         sync.Mutex
	until      time.Time
	left       int
	suppressed int
}

const (
	linesPer  = time.Minute
	linesMost = 20
)

// Write implements io.Writer for log.Logger: one line in one call, "2009/11/10 23:00:00 [WARN] memberlist: text".
func (l *lines) Write(b []byte) (int, error) {
	level, text := parse(b)
	if !l.log.Enabled(context.Background(), level) {
		return len(b), nil
	}
	l.mu.Lock()
	now := time.Now()
	if now.After(l.until) {
		l.until, l.left = now.Add(linesPer), linesMost
	}
	l.left--
	show, suppressed := l.left >= 0 || level < slog.LevelInfo, l.suppressed
	if show {
		l.suppressed = 0
	} else {
		l.suppressed++
	}
	l.mu.Unlock()
	if show {
		l.log.Log(context.Background(), level, "gossip", "text", string(text), "suppressed_before", suppressed)
	}
	return len(b), nil
}

// parse finds level and text. memberlist calls errors what a lossy link does every minute, so its levels count one less.
func parse(b []byte) (slog.Level, []byte) {
	for _, p := range []struct {
		mark  string
		level slog.Level
	}{
		{"[ERR] ", slog.LevelWarn},
		{"[ERROR] ", slog.LevelWarn},
		{"[WARN] ", slog.LevelInfo},
		{"[INFO] ", slog.LevelDebug},
		{"[DEBUG] ", slog.LevelDebug},
	} {
		if _, after, ok := bytes.Cut(b, []byte(p.mark)); ok {
			return p.level, bytes.TrimSpace(bytes.TrimPrefix(after, []byte("memberlist: ")))
		}
	}
	return slog.LevelInfo, bytes.TrimSpace(b)
}
