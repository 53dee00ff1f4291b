package admin

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"mayfly/function"
)

// Cluster is the cluster a node belongs to.
type Cluster struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Node    string    `json:"node"`           // id of the node that answers
	CA      string    `json:"ca,omitempty"`   // "sha256:..." of the authority's certificate, what a join token pins
	Since   time.Time `json:"since,omitzero"` // when this node became a member
	Members int       `json:"members"`        // live ones this node knows of, itself among them

	// Restarts says, in the answer to init and join, that the agent starts anew as a member: for a moment nobody answers, then
	// its status says another time of start.
	Restarts bool `json:"restarts,omitempty"`
}

// InitRequest makes a cluster of which the node is the first.
type InitRequest struct {
	Name string `json:"name,omitempty"` // "" = the agent chooses
}

// JoinRequest makes a node a member.
type JoinRequest struct {
	Token string `json:"token"` // as `mayfly token create` printed it
	Via   string `json:"via"`   // HOST:PORT of any member
}

// LeaveRequest takes a node out of its cluster.
type LeaveRequest struct {
	Force bool `json:"force,omitempty"` // also when it holds the authority's key and there are others
}

// Left is what came of it.
type Left struct {
	Cluster  string `json:"cluster"`
	Others   int    `json:"others"`             // live members that there were besides this node
	Heard    bool   `json:"heard"`              // one of them knows, and tells the rest
	Restarts bool   `json:"restarts,omitempty"` // as in Cluster
}

// Bounds of join tokens.
const (
	MaxTokenTTL  = 30 * 24 * time.Hour
	MaxTokenUses = 1000
)

// TokenRequest asks for a join token.
type TokenRequest struct {
	Name   string   `json:"name,omitempty"`   // for people: "gateways hall 2"
	TTLMS  int64    `json:"ttl_ms"`           // 1 s to MaxTokenTTL
	Uses   int      `json:"uses"`             // 1 to MaxTokenUses
	Labels []string `json:"labels,omitempty"` // every node that joins with it gets them
}

// JoinToken is one join token. Token is the secret itself: it is there in the answer to its creation only.
type JoinToken struct {
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Labels  []string  `json:"labels,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"` // that it was made for
	Used    int       `json:"used"`
	Token   string    `json:"token,omitempty"`
}

// States of a member, as the node that answers sees it.
const (
	MemberAlive   = "alive"
	MemberSuspect = "suspect" // it did not answer; not given up yet
	MemberDown    = "down"
	MemberLeft    = "left"    // it said so
	MemberRevoked = "revoked" // for good
)

// Member is one node of the cluster as the node that answers sees it. Figures of others are as old as AgeMS says.
type Member struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Self         bool      `json:"self,omitempty"`
	State        string    `json:"state"`
	Reason       string    `json:"reason,omitempty"` // why it is not alive, or not well
	Hint         string    `json:"hint,omitempty"`
	Draining     bool      `json:"draining,omitempty"`
	Address      string    `json:"address"`                 // HOST:PORT of gossip
	AdminAddress string    `json:"admin_address,omitempty"` // HOST:PORT that answers operators from afar, "" = it does not
	Labels       []string  `json:"labels"`
	Version      string    `json:"version"`
	Arch         string    `json:"arch"`
	OS           string    `json:"os"`
	Slots        int       `json:"slots"`
	Running      int       `json:"running"`
	Queued       int       `json:"queued"`
	MemoryBytes  int64     `json:"memory_bytes,omitempty"` // a sandbox gets at most
	RTTMS        float64   `json:"rtt_ms"`                 // 0 for the node that answers
	AgeMS        int64     `json:"age_ms"`                 // of what is known of it
	Joined       time.Time `json:"joined,omitzero"`
	LastSeen     time.Time `json:"last_seen,omitzero"`
	Certificate  time.Time `json:"certificate_until,omitzero"`
	Owns         []string  `json:"owns,omitempty"` // triggers it owns, "overheat mqtt[0]"; left out of lists
}

// LabelRequest changes the labels of a node. Adding what is there and removing what is not are no errors.
type LabelRequest struct {
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// DrainRequest makes a node hand over what it has and take nothing new, or take part again.
type DrainRequest struct {
	On bool `json:"on"`
}

// Key is one key of the gossip keyring. It is named by a fingerprint; the key itself is never shown.
type Key struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created,omitzero"`
	Primary bool      `json:"primary"` // what is sent is encrypted with it
}

// KeyHolder is how far a rotation got at one node.
type KeyHolder struct {
	Node    string `json:"node"`
	Name    string `json:"name"`
	Primary string `json:"primary,omitempty"` // id of its primary key, "" = not known
	Keys    int    `json:"keys"`
	AgeMS   int64  `json:"age_ms"`
}

// Keyring is the gossip keyring and who holds which part of it.
type Keyring struct {
	Keys    []Key       `json:"keys"` // the primary first
	Nodes   []KeyHolder `json:"nodes"`
	Settled bool        `json:"settled"`          // every live node uses the same primary key and holds no other
	Reason  string      `json:"reason,omitempty"` // why not
	Hint    string      `json:"hint,omitempty"`
}

func (r *InitRequest) check() error {
	if r.Name == "" {
		return nil
	}
	return CheckLabels([]string{r.Name})
}

func (r *TokenRequest) check() error {
	ttl := time.Duration(r.TTLMS) * time.Millisecond
	switch {
	case r.TTLMS < 1000 || r.TTLMS > MaxTokenTTL.Milliseconds():
		return invalid(fmt.Errorf("a token lives between 1s and %v, not %v", MaxTokenTTL, ttl))
	case r.Uses < 1 || r.Uses > MaxTokenUses:
		return invalid(fmt.Errorf("a token has between 1 and %d uses, not %d", MaxTokenUses, r.Uses))
	}
	return CheckLabels(r.Labels)
}

func (r *JoinRequest) check() error {
	if strings.TrimSpace(r.Token) == "" || r.Via == "" {
		return invalid(errors.New("a token and the address of a member are needed"))
	}
	return nil
}

func (r *LabelRequest) check() error {
	if len(r.Add)+len(r.Remove) == 0 {
		return invalid(errors.New("say which labels to add or to remove"))
	}
	return CheckLabels(append(append([]string(nil), r.Add...), r.Remove...))
}

// Bounds of labels.
const (
	maxLabels = 32
	maxLabel  = 63 // bytes
)

// CheckLabels says what is wrong with labels: a label is 1 to 63 letters, digits, '-', '_', '.', '=' or '/', and begins with a
// letter or a digit. (A sign before it is how the command line adds and removes.)
func CheckLabels(labels []string) error {
	if len(labels) > maxLabels {
		return invalid(fmt.Errorf("%d labels: a node has at most %d", len(labels), maxLabels))
	}
	for _, l := range labels {
		if l == "" || len(l) > maxLabel || strings.TrimLeft(l, labelLetters) != "" || strings.ContainsRune("-_.=/", rune(l[0])) {
			return invalid(fmt.Errorf("label %q: want 1 to %d letters, digits, '-', '_', '.', '=' or '/', a letter or digit first", l, maxLabel))
		}
	}
	return nil
}

const labelLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.=/"

// Alone is what a node that belongs to no cluster answers to what needs one.
func Alone(op string) error {
	return &function.Error{
		Op: op, Subject: "here", Class: function.ClassReject, Kind: KindAlone,
		Err:  errors.New("this node is alone: it belongs to no cluster"),
		Hint: "mayfly init makes a cluster, of which this node is the first; mayfly join TOKEN --via HOST:PORT joins one",
	}
}
