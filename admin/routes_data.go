package admin

import (
	"context"
	"net/http"
	"strconv"
)

// defaultListed is the most dead letters of one list when the query does not say.
const defaultListed = 1000

func (s *Server) deadLetters(w http.ResponseWriter, r *http.Request) {
	var q DeadLetterQuery
	if !s.letterQuery(w, r, &q) {
		return
	}
	if q.Limit <= 0 || q.Limit > defaultListed {
		q.Limit = defaultListed
	}
	list, err := s.backend.DeadLetters.List(r.Context(), q)
	answer(w, emptyNotNull(list), err)
}

func (s *Server) deadLetter(w http.ResponseWriter, r *http.Request) {
	if s.backend.DeadLetters == nil {
		fail(w, unsupported("dead letters"))
		return
	}
	d, err := s.backend.DeadLetters.Get(r.Context(), r.PathValue("id"))
	answer(w, d, err)
}

func (s *Server) replay(w http.ResponseWriter, r *http.Request) {
	s.changeLetters(w, r, "replay", func(ctx context.Context, q DeadLetterQuery) (int, error) {
		return s.backend.DeadLetters.Replay(ctx, q)
	})
}

func (s *Server) drop(w http.ResponseWriter, r *http.Request) {
	s.changeLetters(w, r, "drop", func(ctx context.Context, q DeadLetterQuery) (int, error) {
		return s.backend.DeadLetters.Drop(ctx, q)
	})
}

func (s *Server) changeLetters(w http.ResponseWriter, r *http.Request, op string,
	change func(context.Context, DeadLetterQuery) (int, error),
) {
	var q DeadLetterQuery
	if !s.letterQuery(w, r, &q) {
		return
	}
	if err := q.checkChange(); err != nil {
		fail(w, err)
		return
	}
	n, err := change(r.Context(), q)
	s.changed(r, op, strconv.Itoa(n)+" dead letters", err)
	answer(w, Count{n}, err)
}

// letterQuery reads a query; if it returns false the answer is written.
func (s *Server) letterQuery(w http.ResponseWriter, r *http.Request, q *DeadLetterQuery) bool {
	if s.backend.DeadLetters == nil {
		fail(w, unsupported("dead letters"))
		return false
	}
	if err := s.read(w, r, q); err != nil {
		fail(w, err)
		return false
	}
	return true
}

func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	if s.backend.Bus == nil {
		fail(w, unsupported("publish"))
		return
	}
	var req Message
	if err := s.read(w, r, &req); err != nil {
		fail(w, err)
		return
	}
	m, err := req.message()
	if err == nil {
		err = s.backend.Bus.Publish(r.Context(), m)
	}
	answer(w, Count{1}, err)
}

func (s *Server) subscribe(w http.ResponseWriter, r *http.Request) {
	if s.backend.Bus == nil {
		fail(w, unsupported("subscribe"))
		return
	}
	var q SubscribeQuery
	if err := s.read(w, r, &q); err != nil {
		fail(w, err)
		return
	}
	if err := q.check(); err != nil {
		fail(w, err)
		return
	}
	size := func(m *Received) int {
		n := 256 + len(m.Topic) + len(m.PayloadBase64)
		if m.Payload != nil {
			n += len(*m.Payload)
		}
		return n
	}
	stream(s, w, r, size, func(ctx context.Context, ready func(), emit func(Received)) error {
		return s.backend.Bus.Subscribe(ctx, q, ready, emit)
	})
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	if s.backend.Watcher == nil {
		fail(w, unsupported("logs"))
		return
	}
	var q LogQuery
	if err := s.read(w, r, &q); err != nil {
		fail(w, err)
		return
	}
	if err := q.check(); err != nil {
		fail(w, err)
		return
	}
	size := func(l *LogRecord) int { return 256 + len(l.Text) }
	stream(s, w, r, size, func(ctx context.Context, ready func(), emit func(LogRecord)) error {
		return s.backend.Watcher.Logs(ctx, q, ready, emit)
	})
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.backend.Watcher == nil {
		fail(w, unsupported("events"))
		return
	}
	var q EventQuery
	if err := s.read(w, r, &q); err != nil {
		fail(w, err)
		return
	}
	if err := q.check(); err != nil {
		fail(w, err)
		return
	}
	size := func(e *EventRecord) int { return 1024 + len(e.Topic) + 128*len(e.Published) + 128*len(e.Rules) }
	stream(s, w, r, size, func(ctx context.Context, ready func(), emit func(EventRecord)) error {
		return s.backend.Watcher.Events(ctx, q, ready, emit)
	})
}
