// Command mayfly is for people: it deploys functions to an agent, shows what they do and why, and speaks MQTT through it.
// It is pure Go and links neither the sandbox engine nor the store; all it does it does through the agent's admin socket.
//
// Data goes to standard output; progress, notes and errors go to standard error. One file per verb.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// process is all a command sees of the world.
type process struct {
	Args   []string // without the program's name
	Getenv func(string) string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time // its location is the one times are shown in
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, process{os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr, time.Now})
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, p process) int {
	a := newApp(p)
	root := newRoot(a)
	root.SetArgs(p.Args)
	cmd, err := root.ExecuteContextC(ctx)
	a.client.Close()
	return a.report(cmd, err)
}
