package dispatch

import (
	"sync/atomic"
	"time"

	"mayfly/event"
)

// Loss is a reason why an event did not reach a function, or its effects did not become true. Every one is counted (D8).
type Loss int

// Reasons.
const (
	LossUnmatched   Loss = iota // no trigger wants it: a subscription that is being removed
	LossQueueFull               // QoS 0, and the queue is full
	LossShed                    // overflow = "shed-oldest", and the window stayed full
	LossExpired                 // older than the trigger's max_age
	LossCorrupt                 // its journal record could not be read
	LossUndelivered             // QoS 0, and the agent could not finish it
	LossTooLarge                // more than the disk could ever keep of it, with its topic and attributes
	LossRate                    // QoS 0, and above the trigger's rate
	lossKinds
)

func (l Loss) String() string {
	return [...]string{"unmatched", "queue-full", "shed", "expired", "corrupt", "undelivered", "too-large", "rate"}[l]
}

type losses [lossKinds]atomic.Int64

func (l *losses) add(reason Loss) { l[reason].Add(1) }

// Counters are what a function has seen since the agent started.
type Counters struct {
	Received, Done, Filtered, Duplicate, Retried, Dead, Failed, Rejected, Overloaded, Conflicts atomic.Int64
	Coalesced                                                                                   atomic.Int64 // a later one of the key stood for it
	RunNanos, CPUNanos, BytesIn, BytesOut, Published, LogDropped, Cold                          atomic.Int64
	LastError                                                                                   atomic.Pointer[Failure]
	Average                                                                                     atomic.Int64 // of the run time of late on a node of speed 1, ns
	Away, Refused                                                                               atomic.Int64 // calls that peers ran, refusals
	Hosted                                                                                      atomic.Int64 // calls run for peers; they are theirs to count otherwise
	MemoryTime                                                                                  atomic.Int64 // linear memory times run time, bytes x milliseconds
}

// learn takes note of what a call took on a node of that speed.
func (c *Counters) learn(run time.Duration, speed float64) {
	if speed > 0 && speed != 1 {
		run = time.Duration(float64(run) * speed)
	}
	average := c.Average.Load()
	c.Average.Store(average + (int64(run)-average)/8)
}

// Failure is the last thing that went wrong with a function.
type Failure struct {
	Time  time.Time
	Event string
	Kind  string
	Text  string
}

// Record says what became of one event in one function; the material of `mayfly events` and `mayfly explain`.
type Record struct {
	Time      time.Time // received
	Event     *event.Event
	Function  string
	Trigger   string
	Node      string
	Reason    string // why there
	Outcome   string // done, retry, dead-letter, filtered, duplicate, coalesced, expired, shed, overload
	Kind      string // of the error
	Error     string
	Attempt   int
	Wait      time.Duration // until it ran
	Run       time.Duration
	CPU       time.Duration
	Memory    int64
	Published []event.Message // valid during the call of Observed
	Writes    int
	Cold      bool
}

// FunctionStats is a function's line in `mayfly status`.
type FunctionStats struct {
	Name     string
	Queued   int
	Running  int
	Counters *Counters
}

// Stats returns the counters by function and the losses by reason.
func (d *Dispatcher) Stats() (functions []FunctionStats, lost map[string]int64) {
	d.mu.Lock()
	queued := map[*unit]int{}
	d.eachLane(func(l *lane) bool {
		for t := l.head; t != nil; t = t.next {
			if t != l.head || l.state != laneRunning {
				queued[l.unit]++
			}
		}
		return true
	})
	for _, u := range d.units {
		functions = append(functions, FunctionStats{u.name, queued[u], u.running, &u.stats})
	}
	d.mu.Unlock()
	lost = map[string]int64{}
	for i := range d.loss {
		if n := d.loss[i].Load(); n != 0 {
			lost[Loss(i).String()] = n
		}
	}
	return functions, lost
}
