package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

// versions are those of both ends.
type versions struct {
	Mayfly   string `json:"mayfly"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Agent    string `json:"agent,omitempty"` // empty when none answers
}

func versionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Versions of mayfly and of the agent", Args: arguments(),
		Long:    "The version of this program and, if an agent answers, the agent's.",
		Example: "  mayfly version -o json",
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := ownVersion()
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		st, err := a.client.Status(ctx)
		if err == nil {
			v.Agent = st.Node.Version
		}
		return one(a, *out, view[versions]{
			name: func(v versions) string { return v.Mayfly },
			detail: func(w io.Writer, v versions, _ bool) {
				fields(w, "mayfly", v.Mayfly, "revision", v.Revision, "go", v.Go, "platform", v.Platform)
				if err != nil {
					fields(w, "agent", fmt.Sprintf("does not answer: %v", err))
				}
				fields(w, "agent", v.Agent)
			},
		}, v)
	}
	return cmd
}

// version is set by the linker, as the agent's is.
var version = "unknown"

func ownVersion() versions {
	v := versions{Mayfly: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Mayfly == "unknown" && info.Main.Version != "" && info.Main.Version != "(devel)" { // go install
		v.Mayfly = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
