package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mayfly/admin"
	"mayfly/admin/admintest"
	"mayfly/event"
	"mayfly/function"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// TestScripts runs the scripts in testdata against an agent in memory, one per script. Besides the commands of testscript:
//
//	mayfly ARGS...            run a command line; it must exit with 0, with ! before it with anything else
//	exits CODE ARGS...        run a command line; it must exit with CODE
//	agent stop                end the agent
//	agent broken              make it not ready
//	agent letter FUNCTION DATA    give up an event
//	agent retain TOPIC DATA   publish a retained message
//	agent never               make its broker one it never reached, and lose events at a time nobody knows
//	agent cluster             make a cluster of three
//	agent afar NODE           answer from afar, as that node; sets FAR, its address, and ID, and writes ca.pem, operator.pem and node.pem
//	agent lose NODE           make a node be down
//	agent late NODE           make a node not hear of deployments
//	wasm FILE LINES...        write a module that does what the lines say
//	registry [locked]         start a registry; sets REGISTRY, its address; locked: DOCKER_CONFIG too, a folder that logs in there
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup:         startAgent,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mayfly": scriptMayfly, "exits": scriptExits, "agent": scriptAgent, "wasm": scriptWasm,
			"registry": scriptRegistry,
		},
	})
}

type agentKey struct{}

type scriptedAgent struct {
	*admintest.Agent
	server *admin.Server
	tokens *admin.Tokens
	ca     *admintest.Authority
	stop   func()
}

func startAgent(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "mayfly") // $WORK may be too long for a socket
	if err != nil {
		return err
	}
	agent := admintest.New(noon)
	ca, err := admintest.NewAuthority()
	if err != nil {
		return err
	}
	tokens, err := admin.OpenTokens(filepath.Join(dir, "tokens.json"), ca.Pin, noon)
	if err != nil {
		return err
	}
	agent.Keep = tokens
	srv, err := admin.NewServer(admin.Config{}, agent.Backend(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "s")
	ln, err := admin.Listen(socket, "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, ln) }()
	running := true
	stop := func() {
		if !running {
			return
		}
		running = false
		cancel()
		if err := <-ended; err != nil {
			env.T().Log("Run: ", err)
			env.T().FailNow()
		}
	}
	env.Defer(func() {
		stop()
		os.RemoveAll(dir)
	})
	env.Values[agentKey{}] = &scriptedAgent{agent, srv, tokens, ca, stop}
	env.Setenv("MAYFLY_SOCKET", socket)
	return nil
}

// afar serves operators from afar until the script ends, as the member of that name.
func (a *scriptedAgent) afar(ts *testscript.TestScript, name string) error {
	own, err := a.ca.Certify(name, time.Hour)
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", a.ca.Listening(own))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- a.server.ServeRemote(ctx, ln, admin.Gate{Tokens: a.tokens, Certificate: admintest.Operators})
	}()
	ts.Defer(func() {
		cancel()
		ts.Check(<-ended)
	})
	a.Site.Open(name, admintest.ID(own), ln.Addr().String())
	ts.Setenv("FAR", ln.Addr().String())
	ts.Setenv("ID", admintest.ID(own))
	operator, err := a.ca.Certify("operator", time.Hour)
	if err != nil {
		return err
	}
	for file, c := range map[string]tls.Certificate{"operator.pem": operator, "node.pem": own, "ca.pem": {Certificate: [][]byte{a.ca.Cert.Raw}, PrivateKey: own.PrivateKey}} {
		text, err := admintest.PEM(c)
		if err == nil {
			err = os.WriteFile(ts.MkAbs(file), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func scripted(ts *testscript.TestScript, args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // a command that hangs ends with 130
	defer cancel()
	return run(ctx, process{
		Args: args, Getenv: ts.Getenv, Stdin: strings.NewReader("from standard input"),
		Stdout: ts.Stdout(), Stderr: ts.Stderr(), Now: noon,
	})
}

func scriptMayfly(ts *testscript.TestScript, neg bool, args []string) {
	if code := scripted(ts, args); (code != 0) != neg {
		ts.Fatalf("exit code %d", code)
	}
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if code := scripted(ts, args[1:]); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func scriptAgent(ts *testscript.TestScript, _ bool, args []string) {
	a := ts.Value(agentKey{}).(*scriptedAgent)
	switch args[0] {
	case "stop":
		a.stop()
	case "broken":
		a.Stat.Ready = false
		a.Stat.Reasons = []admin.Reason{{Code: "broker-down", Text: "broker default does not answer", Hint: "mosquitto -v -p 1883"}}
	case "letter":
		a.AddLetter(args[1], &event.Event{ID: "e1", Topic: "plant/7/temp", Data: []byte(args[2]), Time: noon().Add(-time.Minute)},
			&function.Error{Op: "run", Subject: args[1], Class: function.ClassRetry, Kind: "trap", Err: errors.New("unreachable\x1b[31m executed")})
	case "retain":
		ts.Check(a.Publish(context.Background(), event.Message{Topic: args[1], Data: []byte(args[2]), Retain: true}))
	case "never":
		a.Stat.Brokers = []admin.Broker{{Name: "site", URL: "tcp://10.0.0.9:1883", LastError: &admin.Error{Message: "connection refused"}}}
		a.Stat.Losses = []admin.Loss{{Reason: "shed-oldest", Count: 2}}
	case "afar":
		ts.Check(a.afar(ts, args[1]))
	case "cluster":
		a.Site.Grow()
	case "lose":
		a.Site.Lose(args[1])
	case "late":
		a.Site.Delay(args[1], true)
	default:
		ts.Fatalf("agent %s is unknown", args[0])
	}
}

func scriptWasm(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), admintest.Module(args[1:]...), 0o600))
}
