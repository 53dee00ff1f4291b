package admin

import "time"

// Status is how an agent is.
type Status struct {
	Node        Node       `json:"node"`
	Ready       bool       `json:"ready"`
	Reasons     []Reason   `json:"reasons"` // why it is not ready, or not well
	Brokers     []Broker   `json:"brokers"`
	Functions   []Function `json:"functions"` // without their manifests
	Journal     Backlog    `json:"journal"`
	Outbox      Backlog    `json:"outbox"`
	DeadLetters Backlog    `json:"dead_letters"`
	Losses      []Loss     `json:"losses"` // promise D8: whatever is not there any more, by reason
	Engine      Engine     `json:"engine"`
	Store       Store      `json:"store"`
	Disk        Disk       `json:"disk"`
	Memory      Memory     `json:"memory"`
	Cluster     *Cluster   `json:"cluster,omitempty"` // nil = the node is alone
}

// Node is who answers.
type Node struct {
	ID            string    `json:"id"`
	Name          string    `json:"name"`
	Version       string    `json:"version"`
	Arch          string    `json:"arch"`
	PID           int       `json:"pid"`
	Started       time.Time `json:"started"`
	UptimeSeconds int64     `json:"uptime_seconds"`
}

// Reason is one thing that keeps an agent from being well.
type Reason struct {
	Code string `json:"code"` // short and stable: "broker-down", "disk-full"
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Broker is one configured broker.
type Broker struct {
	Name        string    `json:"name"`
	URL         string    `json:"url"` // without credentials
	Embedded    bool      `json:"embedded,omitempty"`
	Connected   bool      `json:"connected"`
	Since       time.Time `json:"since,omitzero"` // of this state
	Reconnects  uint64    `json:"reconnects"`
	Received    uint64    `json:"received"`
	Published   uint64    `json:"published"`
	InFlight    int       `json:"in_flight"`
	LastError   *Error    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// Backlog is what waits somewhere.
type Backlog struct {
	Count         int64 `json:"count"`
	Bytes         int64 `json:"bytes"`
	QuotaBytes    int64 `json:"quota_bytes,omitempty"`
	OldestSeconds int64 `json:"oldest_seconds"` // age of the oldest, 0 when empty
}

// Loss counts what was shed, dropped, corrupted or expired for one reason.
type Loss struct {
	Reason   string    `json:"reason"`
	Function string    `json:"function,omitempty"`
	Count    uint64    `json:"count"`
	Last     time.Time `json:"last"`
}

// Engine is the sandbox engine.
type Engine struct {
	Name             string `json:"name"`
	Slots            int    `json:"slots"` // sandboxes that can live at once
	Busy             int    `json:"busy"`
	Modules          int    `json:"modules"` // compiled and loaded
	ReservationBytes int64  `json:"reservation_bytes"`
	Note             string `json:"note,omitempty"` // what the start-up probe of the address space found
}

// Store is the state of the store's files.
type Store struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	Writable bool      `json:"writable"`
	Findings []Finding `json:"findings"` // of the checks, newest last
}

// Finding is one thing the store's checks found.
type Finding struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
	Lost int64     `json:"lost,omitempty"` // records
}

// Disk is the file system the store is on.
type Disk struct {
	Path         string `json:"path"`
	TotalBytes   int64  `json:"total_bytes"`
	FreeBytes    int64  `json:"free_bytes"`
	FloorBytes   int64  `json:"floor_bytes"`   // below it nothing is written
	WrittenBytes int64  `json:"written_bytes"` // by the agent since it started, from the kernel's accounting
}

// Memory is what the process takes.
type Memory struct {
	RSSBytes   int64 `json:"rss_bytes"`
	LimitBytes int64 `json:"limit_bytes,omitempty"` // of the cgroup
	HeapBytes  int64 `json:"heap_bytes"`            // Go's
	Goroutines int   `json:"goroutines"`
}
