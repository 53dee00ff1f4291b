// Package oci keeps functions in OCI registries, in the layout of the CNCF's Wasm working group
// (https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/): a config of type application/vnd.wasm.config.v0+json and one layer
// of type application/wasm, so that other programs can run the module. The function's manifest is an annotation beside them: a second
// layer would make those refuse the artifact.
//
// Nothing a registry says is believed: an artifact is what its digest says or it is refused, and sizes are compared with bounds
// before anything is read [R1].
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"mayfly/function"
)

// Media types and annotations of the layout. The annotation of the manifest is ours.
const (
	TypeConfig       = "application/vnd.wasm.config.v0+json"
	TypeModule       = "application/wasm"
	AnnotationSource = "vnd.mayfly.function.toml" // the text of function.toml
)

// Bounds in bytes of what is taken from a registry.
const (
	MaxModule   = 8 << 20   // as much as an agent takes
	MaxSource   = 128 << 10 // of function.toml
	maxManifest = 1 << 20
	maxConfig   = 64 << 10
)

// Artifact is a function as a registry has it.
type Artifact struct {
	Source []byte // text of function.toml; nil when somebody else's tool made the artifact
	Module []byte
}

// config is what the layout wants to be said of a module. There is no time in it: the same function is the same digest.
type config struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	LayerDigests []string `json:"layerDigests"`
}

// packed is an artifact as what is sent.
type packed struct {
	config, manifest         []byte
	moduleIs, configIs, isIt spec.Descriptor
}

func describe(kind string, content []byte) spec.Descriptor {
	return spec.Descriptor{MediaType: kind, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// pack lays a out. about is for people who look at the registry.
func pack(a Artifact, about map[string]string) (packed, error) {
	p := packed{moduleIs: describe(TypeModule, a.Module)}
	var err error
	if p.config, err = json.Marshal(config{"wasm", "wasip1", []string{p.moduleIs.Digest.String()}}); err != nil {
		return p, err
	}
	p.configIs = describe(TypeConfig, p.config)
	annotations := map[string]string{AnnotationSource: string(a.Source)}
	for k, v := range about {
		if v != "" {
			annotations[k] = v
		}
	}
	p.manifest, err = json.Marshal(spec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageManifest,
		Config: p.configIs, Layers: []spec.Descriptor{p.moduleIs}, Annotations: annotations,
	})
	p.isIt = describe(spec.MediaTypeImageManifest, p.manifest)
	if err == nil && len(p.manifest) > maxManifest {
		err = fmt.Errorf("its description takes %d bytes, the most is %d", len(p.manifest), maxManifest)
	}
	return p, err
}

// unpack reads a manifest whose digest was checked, and returns where the module is and the text of function.toml.
func unpack(text []byte) (module spec.Descriptor, source []byte, err error) {
	var m spec.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return module, nil, fmt.Errorf("its manifest is not JSON of the right form: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != "" && m.MediaType != spec.MediaTypeImageManifest {
		return module, nil, fmt.Errorf("it is of type %q, not a single artifact", m.MediaType)
	}
	modules := slices.DeleteFunc(m.Layers, func(d spec.Descriptor) bool { return d.MediaType != TypeModule })
	switch {
	case m.Config.MediaType != TypeConfig && len(modules) == 0:
		return module, nil, fmt.Errorf("it is no WebAssembly: its config is of type %q", m.Config.MediaType)
	case len(modules) != 1:
		return module, nil, fmt.Errorf("it has %d layers of type %s, want one", len(modules), TypeModule)
	}
	module = modules[0]
	switch _, err := function.ParseDigest(module.Digest.String()); {
	case err != nil || module.Digest.Algorithm() != digest.SHA256:
		return module, nil, errors.New("the digest of its module is not a SHA-256")
	case module.Size <= 0 || module.Size > MaxModule:
		return module, nil, fmt.Errorf("its module has %d bytes, the most is %d", module.Size, MaxModule)
	}
	if text, ok := m.Annotations[AnnotationSource]; ok {
		source = []byte(text)
	}
	if len(source) > MaxSource {
		return module, nil, fmt.Errorf("its function.toml has %d bytes, the most is %d", len(source), MaxSource)
	}
	return module, source, nil
}
