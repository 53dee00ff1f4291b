package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"mayfly/function"
)

// Options of a client.
type Options struct {
	PlainHTTP    bool   // also for registries elsewhere: what is sent, passwords too, can be read on the way
	DockerConfig string // folder of Docker's config.json, whose credentials and credential helpers are used; "" = nobody logs in
	UserAgent    string
	Transport    http.RoundTripper // nil = http.DefaultTransport
}

// Client speaks to registries. Safe for concurrent use. Every error is a *function.Error.
type Client struct {
	options Options
	auth    *auth.Client
}

// New returns a client. It connects when it is used.
func New(o Options) (*Client, error) {
	c := &Client{options: o, auth: &auth.Client{
		Client: &http.Client{Transport: o.Transport, CheckRedirect: noDowngrade, Timeout: 10 * time.Minute},
		Header: http.Header{"User-Agent": {o.UserAgent}},
		Cache:  auth.NewCache(),
	}}
	if o.DockerConfig == "" {
		return c, nil
	}
	file := filepath.Join(o.DockerConfig, "config.json")
	store, err := credentials.NewStore(file, credentials.StoreOptions{DetectDefaultNativeStore: true})
	if err != nil {
		return nil, refuse("read", file, "invalid", err, "it is the file that docker login writes")
	}
	c.auth.Credential = credentials.Credential(store)
	return c, nil
}

// noDowngrade follows a registry to where it keeps its blobs, but not out of TLS.
func noDowngrade(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("it leads from one address to the next")
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("it leads out of TLS")
	}
	return nil
}

func (c *Client) repository(r Reference) (*remote.Repository, error) {
	repo, err := remote.NewRepository(r.Host + "/" + r.Repository)
	if err != nil {
		return nil, err
	}
	repo.Client = c.auth
	repo.PlainHTTP = c.options.PlainHTTP || r.loopback()
	repo.MaxMetadataBytes = maxManifest + 1
	repo.SkipReferrersGC = true
	return repo, nil
}

// Push stores a function at r, module first and the name last: who asks for the name gets all of it, or what was there before. It returns r with the
// digest it has now. r must have a tag. about are annotations for people, empty ones are left out.
func (c *Client) Push(ctx context.Context, r Reference, a Artifact, about map[string]string) (Reference, error) {
	if r.Tag == "" {
		return r, refuse("push", r.String(), "invalid", errors.New("what is pushed needs a tag, it does not know its digest yet"), "end it with :TAG")
	}
	switch {
	case len(a.Module) == 0 || len(a.Module) > MaxModule:
		return r, refuse("push", r.String(), "too-large", fmt.Errorf("the module has %d bytes, the most is %d", len(a.Module), MaxModule), "")
	case len(a.Source) > MaxSource:
		return r, refuse("push", r.String(), "too-large", fmt.Errorf("the manifest has %d bytes, the most is %d", len(a.Source), MaxSource), "")
	}
	p, err := pack(a, about)
	if err != nil {
		return r, refuse("push", r.String(), "invalid", err, "")
	}
	repo, err := c.repository(r)
	if err != nil {
		return r, c.failed("push", r, err)
	}
	for _, blob := range []struct {
		is      spec.Descriptor
		content []byte
	}{{p.moduleIs, a.Module}, {p.configIs, p.config}} {
		there, err := repo.Blobs().Exists(ctx, blob.is)
		if err == nil && !there {
			err = repo.Blobs().Push(ctx, blob.is, bytes.NewReader(blob.content))
		}
		if err != nil {
			return r, c.failed("push", r, err)
		}
	}
	if err := repo.Manifests().PushReference(ctx, p.isIt, bytes.NewReader(p.manifest), r.Tag); err != nil {
		return r, c.failed("push", r, err)
	}
	return r.At(p.isIt.Digest.String()), nil
}

// Pull fetches what r names, once: it returns r with the digest that r had then, and everything belongs to it. What is not what it claims
// to be is refused: class reject, kind "digest" or "artifact".
func (c *Client) Pull(ctx context.Context, r Reference) (Reference, Artifact, error) {
	repo, err := c.repository(r)
	if err != nil {
		return r, Artifact{}, c.failed("pull", r, err)
	}
	is, text, err := c.manifest(ctx, repo, r)
	if err != nil {
		return r, Artifact{}, err
	}
	at := r.At(is.String())
	module, source, err := unpack(text)
	if err != nil {
		return at, Artifact{}, refuse("pull", at.String(), "artifact", err, "mayfly push makes what mayfly can pull")
	}
	body, err := repo.Blobs().Fetch(ctx, module)
	if err != nil {
		return at, Artifact{}, c.failed("pull", at, err)
	}
	defer body.Close()
	bytes, err := content.ReadAll(body, module)
	if err != nil {
		return at, Artifact{}, c.failed("pull", at, fmt.Errorf("its module: %w", err))
	}
	return at, Artifact{Source: source, Module: bytes}, nil
}

// manifest fetches the manifest r names, whose digest is that of its bytes, and, where r says one, the one asked for.
func (c *Client) manifest(ctx context.Context, repo *remote.Repository, r Reference) (digest.Digest, []byte, error) {
	desc, body, err := repo.Manifests().FetchReference(ctx, r.word())
	if err != nil {
		return "", nil, c.failed("pull", r, err)
	}
	defer body.Close()
	if desc.MediaType != spec.MediaTypeImageManifest {
		return "", nil, refuse("pull", r.String(), "artifact", fmt.Errorf("it is of type %q, not a single artifact", desc.MediaType),
			"name one artifact, by its own tag or digest")
	}
	text, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	switch {
	case err != nil:
		return "", nil, c.failed("pull", r, err)
	case len(text) > maxManifest:
		return "", nil, refuse("pull", r.String(), "too-large", fmt.Errorf("its manifest has more than %d bytes", maxManifest), "")
	}
	is := digest.FromBytes(text)
	if want := desc.Digest; is != want || r.Digest != "" && is.String() != r.Digest {
		return "", nil, refuse("pull", r.String(), "digest", fmt.Errorf("the registry sent something else: its digest is %s", is), "do not trust this registry, or what is between you and it")
	}
	return is, text, nil
}

// failed says what a registry's refusal means.
func (c *Client) failed(op string, r Reference, err error) error {
	e := &function.Error{Op: op, Subject: r.String(), Class: function.ClassRetry, Kind: "unavailable", Err: err}
	code := 0
	if answer, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		code = answer.StatusCode
	}
	switch {
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrTrailingData), errors.Is(err, content.ErrInvalidDescriptorSize),
		errors.Is(err, errdef.ErrInvalidDigest), errors.Is(err, io.ErrUnexpectedEOF):
		e.Class, e.Kind, e.Hint = function.ClassReject, "digest", "try again; if it stays so the registry is damaged: push it anew"
	case errors.Is(err, errdef.ErrSizeExceedsLimit):
		e.Class, e.Kind = function.ClassReject, "too-large"
	case errors.Is(err, errdef.ErrNotFound), code == http.StatusNotFound:
		e.Class, e.Kind, e.Hint = function.ClassReject, "not-found", "is it pushed, and is its name right?"
	case code == http.StatusUnauthorized, code == http.StatusForbidden, errors.Is(err, auth.ErrBasicCredentialNotFound):
		e.Class, e.Kind, e.Hint = function.ClassReject, "denied", "log in as for docker: docker login "+r.Host
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Class, e.Hint = function.ClassReject, "it speaks no TLS; if nobody can listen in: --plain-http"
	}
	return e
}
