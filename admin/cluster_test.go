package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mayfly/function"
)

// nothing is a cluster that has nothing to say.
type nothing struct{}

func (nothing) Init(context.Context, InitRequest) (Cluster, error) { return Cluster{}, nil }

func (nothing) Join(context.Context, JoinRequest) (Cluster, error) { return Cluster{}, nil }

func (nothing) Leave(context.Context, LeaveRequest) (Left, error)            { return Left{}, nil }
func (nothing) CreateToken(context.Context, TokenRequest) (JoinToken, error) { return JoinToken{}, nil }
func (nothing) Tokens(context.Context) ([]JoinToken, error)                  { return nil, nil }
func (nothing) RevokeToken(context.Context, string) error                    { return nil }
func (nothing) Keyring(context.Context) (Keyring, error)                     { return Keyring{}, nil }

func (nothing) Rotate(context.Context) (Keyring, error)          { return Keyring{}, nil }
func (nothing) Drill(context.Context, []string) (Drill, error)   { return Drill{}, nil }
func (nothing) Rollout(context.Context, string) (Rollout, error) { return Rollout{}, nil }

func (nothing) Explain(context.Context, ExplainQuery) (Explanation, error) {
	return Explanation{Rows: []Candidate{{}}}, nil
}

func (nothing) Place(context.Context, *function.Manifest) (Placement, error) {
	return Placement{}, nil
}

type nobody struct{}

func (nobody) List(context.Context) ([]Member, error)                      { return []Member{{}}, nil }
func (nobody) Get(context.Context, string) (Member, error)                 { return Member{}, nil }
func (nobody) Label(context.Context, string, LabelRequest) (Member, error) { return Member{}, nil }
func (nobody) Drain(context.Context, string, bool) (Member, error)         { return Member{}, nil }
func (nobody) Revoke(context.Context, string) error                        { return nil }

// ask sends a request as an operator on the device.
func ask(t *testing.T, s *Server, pattern, body string) *httptest.ResponseRecorder {
	t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r = r.WithContext(context.WithValue(t.Context(), operatorKey{}, operator{Caller: Caller{Name: "test", Scope: ScopeAdmin}}))
	w := &deadlines{httptest.NewRecorder()}
	s.mux.ServeHTTP(w, r)
	return w.ResponseRecorder
}

// deadlines is a recorder that can be told one, as a connection can.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetReadDeadline(time.Time) error { return nil }

func clusterRequests() map[string]string {
	return map[string]string{
		"POST /v1/cluster/init": `{"name":"plant"}`, "POST /v1/cluster/join": `{"token":"t","via":"h:1"}`, "POST /v1/cluster/leave": `{}`, "POST /v1/tokens": `{"ttl_ms":1000,"uses":1}`,
		"GET /v1/tokens": "", "DELETE /v1/tokens/t": "", "GET /v1/nodes": "", "GET /v1/nodes/n": "", "POST /v1/nodes/n/labels": `{"add":["a"]}`,
		"POST /v1/nodes/n/drain": `{"on":true}`, "DELETE /v1/nodes/n": "", "GET /v1/keyring": "", "POST /v1/keyring/rotate": "",
		"POST /v1/explain": `{"function":"f"}`, "POST /v1/drill": `{"kill":["n"]}`, "GET /v1/functions/f/rollout": "",
	}
}

// What is a list in an answer is a list when it is empty too: a program that reads it must not meet null.
func TestListsAreNeverNull(t *testing.T) {
	s, err := NewServer(Config{}, Backend{Clusters: nothing{}, Leaver: nothing{}, Nodes: nobody{}, Explainer: nothing{}, Keys: nothing{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for path, body := range clusterRequests() {
		if w := ask(t, s, path, body); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "null") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// An agent without a part says that it does not offer it, and does not fall over.
func TestWhatIsNotOffered(t *testing.T) {
	s, err := NewServer(Config{}, Backend{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	paths := clusterRequests()
	paths["POST /v1/access"], paths["GET /v1/access"], paths["DELETE /v1/access/x"], paths["POST /v1/plan"] = `{"name":"n","scope":"read"}`, "", "", ""
	paths["GET /v1/secrets"], paths["PUT /v1/secrets/s"], paths["DELETE /v1/secrets/s"] = "", `{"value":"eA=="}`, ""
	for path, body := range paths {
		if w := ask(t, s, path, body); w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), KindUnsupported) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestClusterRequestsAreChecked(t *testing.T) {
	s, err := NewServer(Config{}, Backend{Clusters: nothing{}, Nodes: nobody{}, Explainer: nothing{}, Keys: nothing{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	many := `"` + strings.Repeat(`a","`, maxLabels) + `a"`
	for path, bodies := range map[string][]string{
		"POST /v1/cluster/init":   {`{"name":"a b"}`, `{"nmae":"a"}`, ``},
		"POST /v1/cluster/join":   {`{}`, `{"token":" ","via":"h:1"}`, `{"token":"t"}`},
		"POST /v1/tokens":         {`{}`, `{"ttl_ms":1000}`, `{"ttl_ms":999,"uses":1}`, `{"ttl_ms":2592000001,"uses":1}`, `{"ttl_ms":1000,"uses":1001}`, `{"ttl_ms":1000,"uses":1,"labels":["-a"]}`},
		"POST /v1/nodes/n/labels": {`{}`, `{"add":[""]}`, `{"add":["a:b"]}`, `{"remove":["é"]}`, `{"add":["` + strings.Repeat("a", 64) + `"]}`, `{"add":[` + many + `]}`},
		"POST /v1/explain":        {`{}`, `{"function":"f","node":"n"}`},
		"POST /v1/drill":          {`{}`, `{"kill":[]}`},
	} {
		for _, body := range bodies {
			if w := ask(t, s, path, body); w.Code != http.StatusBadRequest {
				t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
			}
		}
	}
	if err := CheckLabels([]string{"gpio", "zone=hall-2", "a.b/c_d", strings.Repeat("a", 63)}); err != nil {
		t.Error(err)
	}
}
