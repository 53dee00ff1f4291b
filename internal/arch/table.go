package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Row says what one package may import.
type Row struct {
	Path string   // below the module; internal packages not listed are leaves
	Own  []string // packages of ours
	Why  string   // what the package is, so that a finding explains itself
}

// ThirdParty says which packages may import a module.
type ThirdParty struct {
	Module string
	By     []string // packages that may; none = every package
	Why    string
}

// Table is who may import whom.
type Table struct {
	Rows    []Row
	Modules []ThirdParty
	Support []string // packages that exist for tests only, besides those named ...test
}

// Layout is the table of this project. Its order is that of an event's journey: words, where events come from, what happens to
// them, where they run, where they rest, how people look at them. Edges that are not in it do not exist.
func Layout() Table {
	return Table{
		Rows:    rows(),
		Modules: modules(),
		Support: []string{"internal/arch", "internal/dex", "internal/dockerregistry", "internal/guests", "internal/mosquitto", "internal/testcluster"},
	}
}

func rows() []Row {
	words := []string{"event", "function", "function/extract"}
	with := func(more ...string) []string { return append(slices.Clone(words), more...) }
	journey := []Row{
		{"event", nil, "pure values at the bottom"},
		{"function/extract", []string{"event"}, "expressions over an event"},
		{"function", []string{"event", "function/extract"}, "the vocabulary of what is run: no goroutine, no I/O"},
		{"function/oci", []string{"event", "function"}, "functions in registries: for the command line, the agent speaks to none"},

		{"triggers", []string{"event", "function"}, "what a source and its acknowledgement are"},
		{"triggers/mqtt", with("triggers"), "a source: it knows its sink by interface only"},
		{"triggers/broker", with("triggers"), "a source: it knows its sink by interface only"},
		{"triggers/gateway/issuer", words, "who a token is of; routes are not its business"},
		{"triggers/gateway", with("triggers", "triggers/gateway/issuer"), "a source: it knows its sink by interface only"},
		{"triggers/cron", with("triggers"), "a source: it knows its sink by interface only"},

		{"agent/placement", words, "a pure function over the cluster view"},
		{"agent/journal", with("store", "triggers"), "durable events; what runs them is not its business"},
		{"agent/outbox", with("store"), "publishes that wait; who publishes is an interface"},
		{"agent/release", []string{"function"}, "versions and verdicts as values; who deploys them is not its business"},
		{"agent/meter", with("store"), "the usage ledger"},
		{"agent/ownership", []string{"event", "function", "triggers"}, "who has a trigger's session: it knows members, sessions and publishers by interface only"},
		{"agent/changelog", with("triggers", "store"), "state that follows its trigger: who publishes and who subscribes are interfaces"},
		{"agent/secret", []string{"function", "store"}, "values sealed to nodes: who carries them and who may order them are interfaces"},
		{"agent/egress", words, "requests that leave: who asks is checked elsewhere"},
		{
			"agent/dispatch", with("triggers", "store", "agent/placement", "agent/journal", "agent/outbox", "agent/meter", "agent/changelog"),
			"the router: engine, peers and catalog are interfaces it declares itself",
		},
		{
			"agent", with("triggers", "triggers/mqtt", "triggers/broker", "triggers/gateway", "triggers/gateway/issuer", "triggers/cron",
				"agent/dispatch", "agent/placement", "agent/journal", "agent/outbox", "agent/release", "agent/meter", "agent/ownership", "agent/changelog", "agent/egress", "agent/secret",
				"wasm", "wasm/abi", "wasm/admission", "wasm/artifact",
				"cluster", "cluster/catalog", "cluster/identity", "cluster/peer", "store", "admin"),
			"the composition root: everything but the commands",
		},

		{"wasm/abi", words, "what guests may call, over data only: no engine types"},
		{"wasm/admission", []string{"function", "wasm/abi"}, "what is refused before it is compiled"},
		{"wasm/artifact", []string{"function"}, "modules on disk"},
		{"wasm/internal/wasmtime", nil, "the engine's binding: it knows no words of ours"},
		{
			"wasm",
			[]string{"event", "function", "wasm/abi", "wasm/admission", "wasm/artifact", "wasm/internal/wasmtime"},
			"the engine: it does not know who calls it",
		},
		{
			"wasm/enginebench",
			[]string{"event", "function", "wasm", "wasm/abi", "wasm/internal/wasmtime"},
			"what an event costs, beside the library's own calls",
		},
	}
	return slices.Concat(journey, around(words))
}

// around is what is beside an event's journey: the other nodes, the disk, the people.
func around(words []string) []Row {
	with := func(more ...string) []string { return append(slices.Clone(words), more...) }
	return []Row{
		{"cluster", nil, "membership and keyed gossip: it does not know what it gossips"},
		{"cluster/catalog", with("store"), "replicated desired state"},
		{"cluster/identity", nil, "keys and certificates"},
		{"cluster/peer", []string{"event", "function", "cluster", "cluster/identity"}, "node-to-node calls"},

		{"store", []string{"event", "function"}, "key space and transactions"},

		{"admin", words, "the operator's door: the command line imports it, so it must stay free of cgo and of the store"},
		{"cmd/mayfly", with("admin", "function/oci", "cluster/identity"), "the command line: pure Go, it talks to a running agent, and signs with operators' keys"},
		{"cmd/mayflyd", with("agent", "admin", "wasm"), "the agent's main: everything else is a library"},
	}
}

func modules() []ThirdParty {
	return []ThirdParty{
		{"github.com/dgraph-io/badger", []string{"store"}, "go through package store"},
		{"github.com/dgraph-io/ristretto", []string{"store"}, "it is badger's; go through package store"},
		{"google.golang.org/protobuf", []string{"store"}, "it is the format of badger's backups; go through package store"},
		{"github.com/bytecodealliance/wasmtime-go", []string{"wasm/internal/wasmtime"}, "go through package wasm"},
		{"github.com/hashicorp/memberlist", []string{"cluster"}, "go through package cluster"},
		{"github.com/eclipse/paho.mqtt.golang", []string{"triggers/mqtt"}, "go through package triggers/mqtt"},
		{"github.com/mochi-mqtt/server", []string{"triggers/broker"}, "go through package triggers/broker"},
		{"github.com/golang-jwt/jwt", []string{"triggers/gateway/issuer"}, "go through package triggers/gateway/issuer"},
		{"github.com/expr-lang/expr", []string{"function/extract"}, "go through package function/extract"},
		{"github.com/pelletier/go-toml", []string{"internal/tomlcheck"}, "go through package internal/tomlcheck"},
		{"oras.land/oras-go", []string{"function/oci"}, "go through package function/oci"},
		{"github.com/opencontainers", []string{"function/oci"}, "go through package function/oci"},
		{"github.com/spf13/cobra", []string{"cmd/mayfly"}, "only the command line has verbs"},
		{"github.com/spf13/pflag", []string{"cmd/mayfly"}, "only the command line has verbs"},
		{"github.com/goccy/go-yaml", []string{"cmd/mayfly"}, "only the command line prints YAML"},
		{"github.com/cespare/xxhash", nil, ""},
		{"github.com/anishathalye/porcupine", []string{"test/torture/register"}, "go through package test/torture/register"},
		{"golang.org/x/sys", nil, ""},
		{"golang.org/x/sync", nil, ""},
	}
}

const (
	ruleRow     Rule = "Every package has a row in the import table that says what it is and what it may import."
	ruleCycle   Rule = "Imports point one way: what is imported is lower in the tree."
	ruleModule  Rule = "A dependency has a row that says who may import it; docs/RATIONALE.md says what it costs."
	ruleCgo     Rule = "C is called in one place, wasm/internal/wasmtime, where every pointer is watched."
	ruleSupport Rule = "Test support, a package named ...test, is imported by tests and other test support only."
	ruleName    Rule = "Packages are named after what they are about: not util, common, helper, manager, core, base, misc, service or types."
)

// check compares the non-test imports of all packages with the table.
func (tb Table) check(t *Tree) []Finding {
	found := tb.cycles()
	for _, p := range t.Packages {
		for element := range strings.SplitSeq(p.Path, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "manager", "core", "base", "misc", "service", "types"}, element) {
				found = append(found, Finding{p.Path, "the name says nothing", ruleName})
			}
		}
		if len(p.GoFiles)+len(p.CgoFiles) == 0 || tb.free(p.Path) {
			continue
		}
		row, ok := tb.row(p.Path)
		if !ok {
			found = append(found, Finding{p.Path, "a package without a row", ruleRow})
			continue
		}
		for _, i := range p.Imports {
			if f, bad := tb.edge(t.Module, row, i); bad {
				found = append(found, f)
			}
		}
	}
	return found
}

// free says whether a package may import anything: it is not part of the programs.
func (tb Table) free(p string) bool {
	return p == "test" || strings.HasPrefix(p, "test/") || tb.support(p)
}

// support says whether a package exists for tests only.
func (tb Table) support(p string) bool {
	return strings.HasSuffix(p, "test") || slices.Contains(tb.Support, p)
}

// row returns the row of a package. An internal package without one is small mechanics: it may import nothing of ours, and
// everybody may import it.
func (tb Table) row(p string) (Row, bool) {
	if i := slices.IndexFunc(tb.Rows, func(r Row) bool { return r.Path == p }); i >= 0 {
		return tb.Rows[i], true
	}
	return Row{Path: p, Why: "small mechanics that know nothing of ours"}, tb.mechanics(p)
}

func (tb Table) mechanics(p string) bool {
	return strings.HasPrefix(p, "internal/") && !slices.ContainsFunc(tb.Rows, func(r Row) bool { return r.Path == p })
}

// edge judges one import of the package of row.
func (tb Table) edge(module string, row Row, imported string) (Finding, bool) {
	if own, ok := strings.CutPrefix(imported, module+"/"); ok {
		switch {
		case tb.support(own):
			return Finding{row.Path, "imports " + own, ruleSupport}, true
		case slices.Contains(row.Own, own), tb.mechanics(own):
			return Finding{}, false
		}
		return Finding{row.Path, "imports " + own, Rule(row.Path + " is " + row.Why + ". It may import: " + strings.Join(append(row.Own, "nothing else of ours"), ", ") + ".")}, true
	}
	if imported == "C" || imported == "runtime/cgo" {
		return Finding{row.Path, "imports " + imported, ruleCgo}, row.Path != "wasm/internal/wasmtime"
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return Finding{}, false // the standard library
	}
	for _, m := range tb.Modules {
		if imported == m.Module || strings.HasPrefix(imported, m.Module+"/") {
			bad := len(m.By) > 0 && !slices.Contains(m.By, row.Path)
			return Finding{row.Path, "imports " + imported, Rule(m.Module + " is imported by " + strings.Join(m.By, ", ") + " alone: " + m.Why + ".")}, bad
		}
	}
	return Finding{row.Path, "imports " + imported, ruleModule}, true
}

// cycles finds rows that the table itself lets import each other.
func (tb Table) cycles() []Finding {
	var found []Finding
	var walk func(from, p string, seen []string)
	walk = func(from, p string, seen []string) {
		if slices.Contains(seen, p) {
			return
		}
		r, _ := tb.row(p)
		for _, next := range r.Own {
			if next == from {
				found = append(found, Finding{from, fmt.Sprintf("may import itself by way of %s", path.Join(append(seen, p)...)), ruleCycle})
				continue
			}
			walk(from, next, append(seen, p))
		}
	}
	for _, r := range tb.Rows {
		walk(r.Path, r.Path, nil)
	}
	return found
}
