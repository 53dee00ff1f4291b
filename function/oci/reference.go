package oci

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"oras.land/oras-go/v2/registry"

	"mayfly/function"
)

// Scheme is what references begin with on a command line. In a manifest it may be left out.
const Scheme = "oci://"

// IsReference says whether a word on a command line means something in a registry.
func IsReference(word string) bool { return strings.HasPrefix(word, Scheme) }

// Reference names an artifact in a registry: by a tag, which may be moved, or by the digest of its manifest, which may not.
type Reference struct {
	Host       string // with the port
	Repository string
	Tag        string // "" where there is a digest
	Digest     string // "sha256:..."; "" where there is a tag
}

// ParseReference reads "HOST[:PORT]/REPOSITORY[:TAG|@sha256:DIGEST]", with or without Scheme. Without both the tag is "latest". Of a tag
// and a digest together the digest counts.
func ParseReference(text string) (Reference, error) {
	ref, err := registry.ParseReference(strings.TrimPrefix(text, Scheme))
	if err != nil {
		return Reference{}, refuse("read", text, "reference", fmt.Errorf("it is no reference: %w", err), "write it like oci://registry.local:5000/iot/overheat:1.2.0")
	}
	out := Reference{Host: ref.Registry, Repository: ref.Repository, Tag: ref.ReferenceOrDefault()}
	if strings.Contains(out.Tag, ":") {
		if _, err := function.ParseDigest(out.Tag); err != nil || !strings.HasPrefix(out.Tag, "sha256:") {
			return Reference{}, refuse("read", text, "reference", errors.New("a digest is sha256: and 64 hexadecimal digits"), "")
		}
		out.Tag, out.Digest = "", out.Tag
	}
	return out, nil
}

// At is the artifact of that digest in the same repository.
func (r Reference) At(digest string) Reference {
	return Reference{Host: r.Host, Repository: r.Repository, Digest: digest}
}

// String returns the reference with its scheme, as ParseReference reads it.
func (r Reference) String() string {
	s := Scheme + r.Host + "/" + r.Repository
	if r.Digest != "" {
		return s + "@" + r.Digest
	}
	return s + ":" + r.Tag
}

// word is what the registry calls it.
func (r Reference) word() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// loopback says whether the registry is on this device, where nobody listens in.
func (r Reference) loopback() bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(r.Host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func refuse(op, subject, kind string, err error, hint string) error {
	return &function.Error{Op: op, Subject: subject, Class: function.ClassReject, Kind: kind, Err: err, Hint: hint}
}
