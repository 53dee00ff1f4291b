package gateway

import (
	"encoding/json"
	"errors"
	"net/http"

	"mayfly/function"
	"mayfly/internal/nearest"
)

const maxDetail = 2000 // bytes of a reason told to a caller

// problem is an error as a caller sees it (RFC 9457): what happened, why, and what to do next.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Kind   string `json:"kind"` // stable word
	Next   string `json:"next,omitempty"`

	after     string // Retry-After
	challenge string // WWW-Authenticate (RFC 9110 section 11.6.1)
}

func (g *Gateway) problem(w http.ResponseWriter, p *problem) {
	p.Type = "urn:mayfly:problem:" + p.Kind
	if len(p.Detail) > maxDetail {
		p.Detail = p.Detail[:maxDetail] + "..."
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and an int
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.after != "" {
		h.Set("Retry-After", p.after)
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	g.count(p.Status)
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n')) // an error means the caller left
}

// explain turns the failure of a call into what its caller should know.
func (g *Gateway) explain(name string, err error) *problem {
	p := &problem{Kind: function.KindOf(err), Detail: err.Error()}
	e, _ := errors.AsType[*function.Error](err)
	if e != nil {
		p.Next = e.Hint
	} else {
		e = &function.Error{}
	}
	class := function.ClassOf(err)
	switch {
	case p.Kind == "not-found":
		p.Status, p.Title = http.StatusNotFound, "There is no function of that name"
		if near := g.near(name); near != "" {
			p.Next = "did you mean " + near + "?"
		}
	case p.Kind == "paused":
		p.Status, p.Title, p.after = http.StatusServiceUnavailable, "The function is paused", seconds(e.After)
	case p.Kind == "timeout" || p.Kind == "cpu":
		p.Status, p.Title = http.StatusGatewayTimeout, "The function did not finish in time"
	case p.Kind == "payload-limit":
		p.Status, p.Title = http.StatusRequestEntityTooLarge, "The request is larger than the function takes"
	case class == function.ClassReject:
		p.Status, p.Title = http.StatusUnprocessableEntity, "The function rejected the request"
	case p.Kind == "state-moving" || p.Kind == "state-elsewhere":
		p.Status, p.Title, p.after = http.StatusServiceUnavailable, "The function's state is on its way from one node to another", seconds(e.After)
	case class == function.ClassOverload || class == function.ClassNotHere || class == function.ClassConflict:
		p.Status, p.Title, p.after = http.StatusServiceUnavailable, "There is no room to run the function now", seconds(e.After)
	case p.Kind == "asked" || p.Kind == function.Retry.String():
		p.Status, p.Title, p.after = http.StatusServiceUnavailable, "The function asks to be called again", seconds(e.After)
	case class == function.ClassFatal:
		p.Status, p.Title, p.after = http.StatusServiceUnavailable, "This node cannot run functions now", seconds(e.After)
	default:
		p.Status, p.Title = http.StatusBadGateway, "The function failed"
	}
	return p
}

// near returns the deployed function whose name is most like name, if one is.
func (g *Gateway) near(name string) string {
	if g.c.Names == nil || len(name) > 200 {
		return ""
	}
	return nearest.To(name, g.c.Names())
}
