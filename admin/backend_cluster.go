package admin

import (
	"context"

	"mayfly/function"
)

// Clusters makes and joins clusters. A node belongs to at most one.
type Clusters interface {
	// Init makes a cluster of which this node is the first, and returns when that survives a power cut. It is
	// KindConflict on a node that belongs to one.
	Init(ctx context.Context, r InitRequest) (Cluster, error)
	// Join makes this node a member, and returns when it has its certificate and keyring on disk. It is KindConflict on a
	// node that belongs to a cluster, KindDenied for a token that is spent, expired, revoked or pins another authority,
	// KindUnavailable when nobody answers at r.Via.
	Join(ctx context.Context, r JoinRequest) (Cluster, error)
	// CreateToken makes a join token; the secret is in the answer and kept nowhere. Alone, it is KindAlone.
	CreateToken(ctx context.Context, r TokenRequest) (JoinToken, error)
	// Tokens returns those that may still be used, oldest first, without their secrets.
	Tokens(ctx context.Context) ([]JoinToken, error)
	// RevokeToken ends one, or is KindNotFound. Nodes that joined with it stay.
	RevokeToken(ctx context.Context, id string) error
}

// Leaver takes this node out of its cluster.
type Leaver interface {
	// Leave returns when it survives a power cut that this node leaves, and others were told if there are any; it then starts anew, alone and
	// without functions. It is KindAlone on a node that is alone, and KindConflict on one that others cannot do without, unless r.Force.
	Leave(ctx context.Context, r LeaveRequest) (Left, error)
}

// Nodes are the members of the cluster. A node is named by its name, its id, or the beginning of an id that only one has;
// a name that two have is KindConflict. Alone, everything but List is KindAlone.
type Nodes interface {
	// List returns all that are known, also those that are down or revoked, sorted by name; alone, it returns this one.
	List(ctx context.Context) ([]Member, error)
	// Get returns one with what it owns, or KindNotFound.
	Get(ctx context.Context, node string) (Member, error)
	// Label adds and removes labels, and returns when the change is durable here; the node itself may learn of it later.
	Label(ctx context.Context, node string, r LabelRequest) (Member, error)
	// Drain makes a node hand over its triggers and take no more work, or take part again; it returns when the wish is
	// durable, not when the hand-over is done.
	Drain(ctx context.Context, node string, on bool) (Member, error)
	// Revoke ends a node's membership for good. It cannot be undone: the device must join anew, under another key.
	Revoke(ctx context.Context, node string) error
}

// Explainer says why things run where they run. Nothing it does changes anything. It also answers on a node that is alone,
// with one row.
type Explainer interface {
	// Explain answers from what this node knows, without asking others. An event or function it does not know is
	// KindNotFound.
	Explain(ctx context.Context, q ExplainQuery) (Explanation, error)
	// Place says where a function of that manifest would run if it were deployed now.
	Place(ctx context.Context, m *function.Manifest) (Placement, error)
	// Drill says where everything would land without the nodes named. Alone, it is KindAlone.
	Drill(ctx context.Context, kill []string) (Drill, error)
	// Rollout says how far the current revision of a function got. Alone, it is this node only.
	Rollout(ctx context.Context, name string) (Rollout, error)
}

// Keys is the gossip keyring. Alone, it is KindAlone.
type Keys interface {
	// Keyring returns who holds which key.
	Keyring(ctx context.Context) (Keyring, error)
	// Rotate makes a new primary key and starts to spread it; it returns when the key survives a power cut here. A node
	// that sleeps through it fetches it later. It is KindConflict while a rotation is under way.
	Rotate(ctx context.Context) (Keyring, error)
}

// Access keeps the API tokens of operators who come from afar. Tokens implements it.
type Access interface {
	// Create makes a token and returns when it survives a power cut. The secret is in the answer and kept nowhere.
	Create(r AccessRequest) (AccessToken, error)
	// List returns all, oldest first, also expired ones.
	List() []AccessToken
	// Revoke ends one for good, or is KindNotFound.
	Revoke(id string) error
}
