package admin

import (
	"context"
	"net/http"
	"net/url"
)

// Init makes a cluster of which the agent's node is the first.
func (c *Client) Init(ctx context.Context, r InitRequest) (Cluster, error) {
	return call[Cluster](ctx, c, http.MethodPost, "cluster/init", r)
}

// Join makes the agent's node a member of a cluster.
func (c *Client) Join(ctx context.Context, r JoinRequest) (Cluster, error) {
	return call[Cluster](ctx, c, http.MethodPost, "cluster/join", r)
}

// Leave takes the agent's node out of its cluster.
func (c *Client) Leave(ctx context.Context, r LeaveRequest) (Left, error) {
	return call[Left](ctx, c, http.MethodPost, "cluster/leave", r)
}

// CreateToken makes a join token; its secret is in the answer.
func (c *Client) CreateToken(ctx context.Context, r TokenRequest) (JoinToken, error) {
	return call[JoinToken](ctx, c, http.MethodPost, "tokens", r)
}

// Tokens lists the join tokens that may still be used.
func (c *Client) Tokens(ctx context.Context) ([]JoinToken, error) {
	return call[[]JoinToken](ctx, c, http.MethodGet, "tokens", nil)
}

// RevokeToken ends a join token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := call[Count](ctx, c, http.MethodDelete, "tokens/"+url.PathEscape(id), nil)
	return err
}

// Nodes lists the members of the cluster, sorted by name.
func (c *Client) Nodes(ctx context.Context) ([]Member, error) {
	return call[[]Member](ctx, c, http.MethodGet, "nodes", nil)
}

// Node returns one member with what it owns. It is named by name, id, or the beginning of an id.
func (c *Client) Node(ctx context.Context, node string) (Member, error) {
	return call[Member](ctx, c, http.MethodGet, "nodes/"+url.PathEscape(node), nil)
}

// Label changes the labels of a node.
func (c *Client) Label(ctx context.Context, node string, r LabelRequest) (Member, error) {
	return call[Member](ctx, c, http.MethodPost, "nodes/"+url.PathEscape(node)+"/labels", r)
}

// Drain makes a node hand over what it has, or take part again.
func (c *Client) Drain(ctx context.Context, node string, on bool) (Member, error) {
	return call[Member](ctx, c, http.MethodPost, "nodes/"+url.PathEscape(node)+"/drain", DrainRequest{on})
}

// RevokeNode ends a node's membership for good.
func (c *Client) RevokeNode(ctx context.Context, node string) error {
	_, err := call[Count](ctx, c, http.MethodDelete, "nodes/"+url.PathEscape(node), nil)
	return err
}

// Keyring returns the gossip keyring and who holds which part of it.
func (c *Client) Keyring(ctx context.Context) (Keyring, error) {
	return call[Keyring](ctx, c, http.MethodGet, "keyring", nil)
}

// Rotate makes a new gossip key.
func (c *Client) Rotate(ctx context.Context) (Keyring, error) {
	return call[Keyring](ctx, c, http.MethodPost, "keyring/rotate", nil)
}

// CreateAccess makes an API token; its secret is in the answer.
func (c *Client) CreateAccess(ctx context.Context, r AccessRequest) (AccessToken, error) {
	return call[AccessToken](ctx, c, http.MethodPost, "access", r)
}

// AccessTokens lists the API tokens.
func (c *Client) AccessTokens(ctx context.Context) ([]AccessToken, error) {
	return call[[]AccessToken](ctx, c, http.MethodGet, "access", nil)
}

// RevokeAccess ends an API token.
func (c *Client) RevokeAccess(ctx context.Context, id string) error {
	_, err := call[Count](ctx, c, http.MethodDelete, "access/"+url.PathEscape(id), nil)
	return err
}

// Explain says why something runs where it runs.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodPost, "explain", q)
}

// Drill says where everything would land without some nodes.
func (c *Client) Drill(ctx context.Context, kill ...string) (Drill, error) {
	return call[Drill](ctx, c, http.MethodPost, "drill", DrillRequest{kill})
}

// Rollout says how far the current revision of a function got.
func (c *Client) Rollout(ctx context.Context, name string) (Rollout, error) {
	return call[Rollout](ctx, c, http.MethodGet, "functions/"+url.PathEscape(name)+"/rollout", nil)
}

// Plan says what a deployment would change.
func (c *Client) Plan(ctx context.Context, req DeployRequest, module []byte) (Plan, error) {
	resp, err := c.upload(ctx, "plan", req, module)
	if err != nil {
		return Plan{}, err
	}
	return read[Plan](ctx, "plan", resp)
}
