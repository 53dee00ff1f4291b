// Command mayflyd is the agent: one per device.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"mayfly/wasm"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

const usage = `mayflyd is Mayfly's agent: one per device.

  mayflyd run   [--config FILE]         serve until SIGTERM; SIGHUP reloads the configuration
  mayflyd check [--config FILE]         say what is wrong with a configuration, without starting anything
  mayflyd config check FILE             the same
  mayflyd config sample                 print a configuration file that says every setting and its default
  mayflyd serve-test --socket PATH      answer dry runs of functions only; used by: mayfly test
  mayflyd version

FILE defaults to /etc/mayfly/mayfly.toml, which need not exist; the files of conf.d beside it and variables like
MAYFLY_LOG__LEVEL overrule it. See mayfly config show --origin for what is in force.
`

// run is main with everything it depends on as arguments; it returns the exit code.
func run(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch verb, rest := args[0], args[1:]; {
	case verb == "compile-module": // the engine's own compiler process
		return wasm.CompileMain(rest, stdin, stdout, stderr)
	case verb == "help", slices.ContainsFunc(args, isHelp):
		fmt.Fprint(stdout, usage)
	case verb == "run":
		err = serve(ctx, rest, environ, stderr)
	case verb == "check", verb == "config" && len(rest) > 0 && rest[0] == "check":
		err = check(args, environ, stdout)
	case verb == "config" && len(rest) == 1 && rest[0] == "sample":
		_, err = stdout.Write(sample())
	case verb == "serve-test":
		err = serveTest(ctx, rest, stdin, stderr)
	case verb == "version", verb == "--version":
		fmt.Fprintln(stdout, "mayflyd", version)
	default:
		err = &usageError{fmt.Sprintf("unknown command %q", verb)}
	}
	return report(err, stderr)
}

func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// usageError is a call that cannot be understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "mayflyd:", err)
	for _, hint := range hints(err) {
		fmt.Fprintln(stderr, "  try:", hint)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintln(stderr, "  try: mayflyd help")
		return 2
	}
	return 1
}
