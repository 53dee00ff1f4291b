package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"mayfly/function"
	"mayfly/function/oci"
)

// published is where an artifact is.
type published struct {
	Reference string `json:"reference"` // with the digest: it means the same for ever
	Tag       string `json:"tag,omitempty"`
	Digest    string `json:"digest"` // of the artifact
	Module    string `json:"module"` // digest of the module
	Function  string `json:"function"`
	Version   string `json:"version,omitempty"`
}

func pushCommand(a *app) *cobra.Command {
	var r registries
	cmd := &cobra.Command{
		Use:   "push DIR|function.toml oci://HOST/REPOSITORY:TAG",
		Short: "Put a function into a registry",
		Long: `Put a function, module and manifest, into an OCI registry under a tag, in the layout that other WebAssembly programs
know. The same function always has the same digest; say that digest to deploy exactly this one.

Credentials are those of docker login, its credential helpers included. A registry on this device may do without TLS.`,
		Example: "  mayfly push examples/overheat oci://registry.local/iot/overheat:1.2.0",
		Args:    arguments("DIR|function.toml", "oci://HOST/REPOSITORY:TAG"),
	}
	r.flags(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		done, err := a.push(cmd.Context(), args[0], args[1], r)
		if err != nil {
			return err
		}
		return one(a, *out, view[published]{
			name:   func(p published) string { return p.Reference },
			detail: func(w io.Writer, p published, _ bool) { fmt.Fprintln(w, p.Reference) },
		}, done)
	}
	return cmd
}

func (a *app) push(ctx context.Context, dir, target string, r registries) (published, error) {
	ref, err := oci.ParseReference(target)
	if err != nil {
		return published{}, misread(err)
	}
	if ref.Digest != "" {
		return published{}, &usageError{text: "a function is pushed under a tag; its digest follows from it", hint: "mayfly push " + dir + " oci://HOST/REPOSITORY:TAG"}
	}
	p, module, err := a.open(ctx, dir, r)
	if err != nil {
		return published{}, err
	}
	switch path := p.manifest.Module.Path; {
	case path == "":
		return published{}, &usageError{text: p.file + ": its module is in a registry already", hint: "deploy the manifest as it is, or set module.path to a local file"}
	case !filepath.IsLocal(path):
		return published{}, &usageError{text: fmt.Sprintf("%s: module.path = %q leads out of the folder, so nobody could unpack it elsewhere", p.file, path), hint: "put the module below the manifest"}
	}
	client, err := a.registry(r)
	if err != nil {
		return published{}, err
	}
	a.progress("%s: pushing %s", p.manifest.Name, size(int64(len(module))))
	at, err := client.Push(ctx, ref, oci.Artifact{Source: p.text, Module: module}, map[string]string{
		"org.opencontainers.image.title": p.manifest.Name, "org.opencontainers.image.version": p.manifest.Version,
		"org.opencontainers.image.description": p.manifest.Description,
	})
	a.progress("")
	if err != nil {
		return published{}, err
	}
	a.note("%s %s pushed as %s", escape(p.manifest.Name), escape(p.manifest.Version), escape(ref.String()))
	return published{
		Reference: at.String(), Tag: ref.Tag, Digest: at.Digest, Module: function.DigestOf(module).String(),
		Function: p.manifest.Name, Version: p.manifest.Version,
	}, nil
}
