package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"mayfly/function"
)

func pullCommand(a *app) *cobra.Command {
	var r registries
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "pull oci://HOST/REPOSITORY[:TAG|@DIGEST]",
		Short: "Fetch a function from a registry into a folder",
		Long: `Fetch a function, module and manifest, from an OCI registry and write it below a folder (default: one of the function's
name). Every byte is compared with its digest. To deploy it one need not pull it: mayfly deploy oci://...`,
		Example: "  mayfly pull oci://registry.local/iot/overheat:1.2.0\n  mayfly pull oci://registry.local/iot/overheat@sha256:... --dir overheat",
		Args:    arguments("oci://HOST/REPOSITORY[:TAG|@DIGEST]"),
	}
	r.flags(cmd)
	cmd.Flags().StringVarP(&dir, "dir", "d", "", "the folder to write to; default: the function's name")
	cmd.Flags().BoolVar(&force, "force", false, "replace files that are there")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, module, err := a.openArtifact(cmd.Context(), args[0], r)
		if err != nil {
			return err
		}
		to := orElse(dir, p.manifest.Name)
		if err := unpackInto(to, p, module, force); err != nil {
			return err
		}
		a.note("%s %s written to %s", escape(p.manifest.Name), escape(p.manifest.Version), to)
		return one(a, *out, view[published]{
			name:   func(p published) string { return p.Reference },
			detail: func(w io.Writer, p published, _ bool) { fmt.Fprintln(w, p.Reference) },
		}, published{
			Reference: p.file, Digest: p.file[len(p.file)-len(function.Digest{}.String()):], Module: function.DigestOf(module).String(),
			Function: p.manifest.Name, Version: p.manifest.Version,
		})
	}
	return cmd
}

// unpackInto writes manifest and module below dir and nowhere else, whatever the manifest says and whatever links are there.
func unpackInto(dir string, p project, module []byte, force bool) error {
	path := p.manifest.Module.Path
	if !filepath.IsLocal(path) {
		return &function.Error{
			Op: "pull", Subject: p.file, Class: function.ClassReject, Kind: "artifact",
			Err: fmt.Errorf("its manifest wants the module at %q, which is not below %s; nothing was written", path, dir),
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return &usageError{text: err.Error()}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &usageError{text: err.Error()}
	}
	defer root.Close()
	err = put(root, manifestName, p.text, force)
	if err == nil {
		if err = root.MkdirAll(filepath.Dir(path), 0o750); err == nil {
			err = put(root, path, module, force)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return &usageError{text: err.Error(), hint: "--force replaces it, --dir names another folder"}
	}
	if err != nil {
		return &usageError{text: err.Error()}
	}
	return nil
}

// put writes a file that is not there yet, or with force any.
func put(root *os.Root, name string, content []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := root.OpenFile(name, flags, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
