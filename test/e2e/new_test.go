package e2e_test

import (
	"path/filepath"
	"testing"
)

// What mayfly new writes builds, passes its tests and is deployed as it is, in every language, with the compilers people have.
func TestNewFunctionsWorkAsTheyAre(t *testing.T) {
	t.Parallel()
	n := withBroker(t, "")
	for _, language := range []string{"c", "rust", "go", "as", "command"} {
		dir := filepath.Join(n.dir, "new", "hello-"+language)
		n.must("new", dir, "--lang", language).want(t, 0, "mayfly build && mayfly test && mayfly deploy")
		n.must("build", dir)
		n.must("test", dir).want(t, 0, "2 tests passed")
		n.must("deploy", "--wait", dir).want(t, 0, "hello-"+language+" 0.1.0 ready")
		n.must("invoke", "hello-"+language, "-t", "demo/you", "-d", "hi").want(t, 0, "demo/you/hello", "hello you: hi")
		n.must("fn", "rm", "hello-"+language, "--yes")
	}
}
