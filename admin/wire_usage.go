package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"mayfly/function"
)

// Meter is the usage ledger.
type Meter interface {
	// Usage returns what functions used, until this moment. With q.Cluster it asks every live node; of one that is away
	// or does not answer it tells what others last knew, and says of when that is, or that nobody knows.
	Usage(ctx context.Context, q UsageQuery) (UsageReport, error)
	// VerifyUsage computes the chain of this node's ledger again. A ledger that does not fit is an answer, no error.
	VerifyUsage(ctx context.Context) (UsageVerification, error)
}

// UsageQuery asks for usage.
type UsageQuery struct {
	From     time.Time `json:"from,omitzero"` // zero = from the beginning
	To       time.Time `json:"to,omitzero"`   // not including it; zero = until now
	By       string    `json:"by,omitempty"`  // hour, day or month, in UTC; "" = day
	Function string    `json:"function,omitempty"`
	Cluster  bool      `json:"cluster,omitempty"`
}

// UsageSum is what was used.
type UsageSum struct {
	Events       uint64 `json:"events"` // runs that were done, and attempts that failed
	Failed       uint64 `json:"failed"`
	CPUNS        uint64 `json:"cpu_ns"`
	WallNS       uint64 `json:"wall_ns"`
	MemoryByteMS uint64 `json:"memory_byte_ms"` // linear memory times run time
	BytesIn      uint64 `json:"bytes_in"`
	BytesOut     uint64 `json:"bytes_out"`
	Published    uint64 `json:"published"`
	StoredBytes  uint64 `json:"stored_bytes"` // handed to the disk: keys and values of state, marks, journal, outbox, dead letters
	StateBytes   uint64 `json:"state_bytes"`  // the most it had
}

// Add adds other to s. The state is the larger of the two.
func (s *UsageSum) Add(other UsageSum) {
	s.Events += other.Events
	s.Failed += other.Failed
	s.CPUNS += other.CPUNS
	s.WallNS += other.WallNS
	s.MemoryByteMS += other.MemoryByteMS
	s.BytesIn += other.BytesIn
	s.BytesOut += other.BytesOut
	s.Published += other.Published
	s.StoredBytes += other.StoredBytes
	s.StateBytes = max(s.StateBytes, other.StateBytes)
}

// UsageRow is what a function used on a node in one period. An event is counted where it arrived, wherever it ran.
type UsageRow struct {
	Node     string    `json:"node"`
	NodeID   string    `json:"node_id,omitempty"` // in a cluster
	From     time.Time `json:"from"`
	Folded   bool      `json:"folded,omitempty"` // it is a month whose hours are not kept any more
	Function string    `json:"function"`
	Tenant   string    `json:"tenant,omitempty"`
	UsageSum
}

// UsageMissing is a node whose usage is not in a report.
type UsageMissing struct {
	Node   string `json:"node"`
	NodeID string `json:"node_id"`
	Reason string `json:"reason"`
}

// UsageAway is a node that is away, whose usage is in a report as it was known to another one: by day, or by month.
type UsageAway struct {
	Node   string    `json:"node"`
	NodeID string    `json:"node_id"`
	AsOf   time.Time `json:"as_of"`
}

// UsageReport is the answer, sorted by time, function, tenant and node.
type UsageReport struct {
	Rows    []UsageRow     `json:"rows"`
	Missing []UsageMissing `json:"missing"`
	Away    []UsageAway    `json:"away"`
}

// UsageVerification is what became of verifying a ledger.
type UsageVerification struct {
	Node     string `json:"node"`
	Segments uint64 `json:"segments"`         // hours that fit
	Months   int    `json:"months"`           // rows of folded months
	Head     string `json:"head"`             // the last link: noted elsewhere, it shows that the whole was replaced
	Broken   string `json:"broken,omitempty"` // the first thing that does not fit; "" = nothing
}

func (q *UsageQuery) check() error {
	switch function.Period(q.By) {
	case "":
		q.By = string(function.PerDay)
	case function.PerHour, function.PerDay, function.PerMonth:
	default:
		return invalid(errors.New("by is hour, day or month, not " + q.By))
	}
	return nil
}

func (s *Server) usageRoutes(at func(scope, pattern string, h http.HandlerFunc)) {
	at(ScopeRead, "POST /v1/usage", s.usage)
	at(ScopeRead, "GET /v1/usage/verify", s.verifyUsage)
}

func (s *Server) usage(w http.ResponseWriter, r *http.Request) {
	var q UsageQuery
	if !offers(w, "usage", s.backend.Meter != nil) || !s.readInto(w, r, &q, q.check) {
		return
	}
	report, err := s.backend.Meter.Usage(r.Context(), q)
	report.Rows, report.Missing, report.Away = emptyNotNull(report.Rows), emptyNotNull(report.Missing), emptyNotNull(report.Away)
	answer(w, report, err)
}

func (s *Server) verifyUsage(w http.ResponseWriter, r *http.Request) {
	if offers(w, "usage", s.backend.Meter != nil) {
		v, err := s.backend.Meter.VerifyUsage(r.Context())
		answer(w, v, err)
	}
}

// Usage returns what functions used.
func (c *Client) Usage(ctx context.Context, q UsageQuery) (UsageReport, error) {
	return call[UsageReport](ctx, c, http.MethodPost, "usage", q)
}

// VerifyUsage computes the chain of the agent's ledger again.
func (c *Client) VerifyUsage(ctx context.Context) (UsageVerification, error) {
	return call[UsageVerification](ctx, c, http.MethodGet, "usage/verify", nil)
}
