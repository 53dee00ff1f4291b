package admin

import (
	"mayfly/function"
)

func parseManifest(file string, text []byte) (function.Manifest, error) {
	return function.Manifest{}, unsupported("manifest " + file)
}
