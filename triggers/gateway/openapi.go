package gateway

import (
	"encoding/json"
	"net/http"
	"strings"

	"mayfly/function"
)

// openAPI is GET /openapi.json: the routes that are served, as OpenAPI 3.1.
func (g *Gateway) openAPI(w http.ResponseWriter, r *http.Request) {
	if _, p := g.byName(r, ""); p != nil {
		g.problem(w, p)
		return
	}
	body, err := json.MarshalIndent(g.describe(g.table.Load().routes), "", "  ")
	if err != nil {
		panic(err) // maps of strings
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	g.count(http.StatusOK)
	w.Write(append(body, '\n')) // an error means the caller left
}

type object = map[string]any

// describe makes the document.
func (g *Gateway) describe(routes []Route) object {
	paths, templates := object{}, map[string]string{}
	for _, rt := range routes {
		template, parameters := templateOf(rt.Route)
		blank := template
		for _, p := range parameters {
			blank = strings.Replace(blank, "{"+p+"}", "{}", 1)
		}
		if first, twice := templates[blank]; twice { // paths that differ in the names of parameters only are one path
			template, parameters = first, function.Route{Path: first}.Captures()
		}
		templates[blank] = template
		item, ok := paths[template].(object)
		if !ok {
			item = object{}
			paths[template] = item
		}
		methods := []string{strings.ToLower(rt.Route.Method)}
		if rt.Route.Method == "" {
			methods = []string{"get", "put", "post", "delete", "patch"}
		}
		for _, m := range methods {
			if item[m] == nil || rt.Route.Method != "" { // who names the method is the more specific one
				item[m] = g.operation(rt, m, parameters)
			}
		}
	}
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "Functions of this device", "version": "1"},
		"paths":   paths,
		"components": object{
			"securitySchemes": g.schemes(routes),
			"schemas": object{"Problem": object{
				"type": "object", "description": "RFC 9457",
				"properties": object{
					"type": object{"type": "string"}, "title": object{"type": "string"}, "status": object{"type": "integer"},
					"detail": object{"type": "string"}, "kind": object{"type": "string"}, "next": object{"type": "string"},
				},
			}},
		},
	}
}

// templateOf returns the path as OpenAPI writes it, which knows no {rest...}, and its parameters.
func templateOf(r function.Route) (string, []string) {
	return strings.ReplaceAll(r.Path, "...}", "}"), r.Captures()
}

// schemes are what callers show on these routes.
func (g *Gateway) schemes(routes []Route) object {
	all := object{}
	for i := range routes {
		switch rt := &routes[i]; rt.Auth {
		case function.AuthToken:
			all["token"] = object{"type": "http", "scheme": "bearer", "description": "a token of the gateway's file"}
		case function.AuthMTLS:
			all["mtls"] = object{"type": "mutualTLS", "description": "a client certificate of the gateway's authority"}
		case function.AuthJWT:
			scheme := object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
			if v, _ := g.issuerOf(rt); v != nil {
				if named, ok := v.(interface{ URL() string }); ok {
					scheme = object{"type": "openIdConnect", "openIdConnectUrl": strings.TrimSuffix(named.URL(), "/") + "/.well-known/openid-configuration"}
				}
			}
			all[g.schemeOf(rt)] = scheme
		case function.AuthPublic:
		}
	}
	return all
}

// schemeOf is the name of a route's scheme, "" when it has none.
func (g *Gateway) schemeOf(rt *Route) string {
	switch rt.Auth {
	case function.AuthToken, function.AuthMTLS:
		return string(rt.Auth)
	case function.AuthJWT:
		if name := rt.Require.Issuer; name != "" {
			return "jwt-" + name
		}
		return "jwt"
	case function.AuthPublic:
	}
	return ""
}

func (g *Gateway) operation(rt Route, method string, parameters []string) object {
	content := object{"application/problem+json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}}
	op := object{
		"operationId": rt.Function + "-" + rt.Trigger + "-" + method, "tags": []string{rt.Function},
		"responses": object{
			"200":     object{"description": "what the function answered, or the status it chose"},
			"202":     object{"description": "kept, and run later: the request said Prefer: respond-async; Location is where the answer will be"},
			"204":     object{"description": "done, and the function answered nothing"},
			"default": object{"description": "why not", "content": content},
		},
	}
	if rt.Summary != "" {
		op["summary"] = rt.Summary
	}
	if method != "get" && method != "head" {
		op["requestBody"] = object{"content": object{"*/*": object{}}}
	}
	if scheme := g.schemeOf(&rt); scheme != "" {
		scopes := rt.Require.Scopes
		if scopes == nil {
			scopes = []string{}
		}
		op["security"] = []object{{scheme: scopes}}
	}
	var list []object
	for _, p := range parameters {
		list = append(list, object{"name": p, "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if list != nil {
		op["parameters"] = list
	}
	return op
}
