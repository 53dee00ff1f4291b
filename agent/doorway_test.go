package agent

import (
	"maps"
	"slices"
	"testing"
)

// A gateway that would say aloud what it is told, or believe anybody, is not configured.
func TestGatewayConfigurationsThatAreRefused(t *testing.T) {
	site := map[string]IssuerConfig{"site": {URL: "https://idp.site", Audience: []string{"api"}, MaxAge: 3600e9, Refresh: 60e9}}
	for name, c := range map[string]struct {
		g     GatewayConfig
		fault string // the field; "" = it is in order
	}{
		"none":                   {GatewayConfig{}, ""},
		"loopback":               {GatewayConfig{Listen: "127.0.0.1:80"}, ""},
		"network":                {GatewayConfig{Listen: ":80"}, "gateway.listen"},
		"network, TLS":           {GatewayConfig{Listen: ":80", Cert: "c", Key: "k", ClientCA: "a"}, ""},
		"network, said so":       {GatewayConfig{Listen: "0.0.0.0:80", Plain: true}, ""},
		"no port":                {GatewayConfig{Listen: "localhost"}, "gateway.listen"},
		"half a certificate":     {GatewayConfig{Listen: "127.0.0.1:80", Key: "k"}, "gateway.cert"},
		"callers without TLS":    {GatewayConfig{Listen: "127.0.0.1:80", ClientCA: "a"}, "gateway.client_ca"},
		"an issuer":              {GatewayConfig{Issuers: site}, ""},
		"an issuer in the clear": {GatewayConfig{Issuers: map[string]IssuerConfig{"site": {URL: "http://idp.site", Audience: []string{"api"}}}}, "gateway.issuer.site"},
		"for anybody":            {GatewayConfig{Issuers: map[string]IssuerConfig{"site": {URL: "https://idp.site"}}}, "gateway.issuer.site"},
		"a name that is a path":  {GatewayConfig{Issuers: map[string]IssuerConfig{"../x": site["site"]}}, "gateway.issuer.../x"},
		"not another's business": {GatewayConfig{Listen: "[::1]:80", Issuers: site}, ""},
	} {
		faults := map[string]error{}
		c.g.validate(faults)
		if got := slices.Sorted(maps.Keys(faults)); c.fault == "" && len(got) > 0 || c.fault != "" && !slices.Equal(got, []string{c.fault}) {
			t.Errorf("%s: %v", name, faults)
		}
	}
}
