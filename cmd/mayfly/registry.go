package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"mayfly/function"
	"mayfly/function/oci"
)

// registries says how registries are spoken to.
type registries struct{ plainHTTP bool }

func (r *registries) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.plainHTTP, "plain-http", false, "speak to a registry elsewhere without TLS: anybody on the way can read and change what is said, passwords too")
}

// client returns one with the credentials of docker login.
func (a *app) registry(r registries) (*oci.Client, error) {
	dir := a.Getenv("DOCKER_CONFIG")
	if dir == "" && a.Getenv("HOME") != "" {
		dir = filepath.Join(a.Getenv("HOME"), ".docker")
	}
	return oci.New(oci.Options{PlainHTTP: r.plainHTTP, DockerConfig: dir, UserAgent: "mayfly/" + version})
}

// open reads the function that arg names, a folder, a manifest or an artifact in a registry, with its module. A tag is resolved once:
// everything is of the digest that is told.
func (a *app) open(ctx context.Context, arg string, r registries) (project, []byte, error) {
	if oci.IsReference(arg) {
		return a.openArtifact(ctx, arg, r)
	}
	p, err := openProject(arg)
	if err != nil {
		return p, nil, err
	}
	if p.manifest.Module.OCI == "" {
		module, err := p.module()
		return p, module, err
	}
	_, artifact, err := a.pull(ctx, p.manifest.Module.OCI, r)
	return p, artifact.Module, err
}

// pull fetches what a reference names, and tells a person which digest that is when the reference does not.
func (a *app) pull(ctx context.Context, text string, r registries) (oci.Reference, oci.Artifact, error) {
	ref, err := oci.ParseReference(text)
	if err != nil {
		return ref, oci.Artifact{}, misread(err)
	}
	client, err := a.registry(r)
	if err != nil {
		return ref, oci.Artifact{}, err
	}
	a.progress("fetching %s", escape(ref.String()))
	at, artifact, err := client.Pull(ctx, ref)
	a.progress("")
	if err == nil && ref.Digest == "" {
		a.note("%s is %s", escape(ref.String()), at.Digest)
	}
	return at, artifact, err
}

func (a *app) openArtifact(ctx context.Context, arg string, r registries) (project, []byte, error) {
	at, artifact, err := a.pull(ctx, arg, r)
	if err != nil {
		return project{}, nil, err
	}
	if artifact.Source == nil {
		return project{}, nil, &function.Error{
			Op: "pull", Subject: at.String(), Class: function.ClassReject, Kind: "artifact", Err: errors.New("it has a module but no function.toml: mayfly did not make it"),
			Hint: fmt.Sprintf("write a function.toml with [module] oci = %q, and deploy that", at.String()[len(oci.Scheme):]),
		}
	}
	p := project{file: at.String(), text: artifact.Source}
	if p.manifest, err = function.ParseManifest(p.file, p.text); err != nil {
		return p, nil, &usageError{text: err.Error(), hint: "it was made by another version of mayfly, or by something else: correct it and push it again"}
	}
	if p.manifest.Module.Path == "" { // or it would show one module and bring another
		return p, nil, &function.Error{
			Op: "pull", Subject: p.file, Class: function.ClassReject, Kind: "artifact", Err: errors.New("its manifest does not say module.path: its module would be elsewhere"),
		}
	}
	return p, artifact.Module, nil
}

// misread makes a reference that cannot be read a mistake of the command line.
func misread(err error) error {
	e, ok := errors.AsType[*function.Error](err)
	if !ok {
		return err
	}
	return &usageError{text: err.Error(), hint: e.Hint}
}
