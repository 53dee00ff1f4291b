package agent

import (
	"strings"
	"testing"
)

func TestFaultsOfTheClustersSettings(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string // path of the fault, "" = none
	}{
		"all of it":        {Config{Cluster: ClusterConfig{Listen: "0.0.0.0:7946", Advertise: "10.0.0.1", Seeds: []string{"abc@gate:7946"}, Allowed: []string{"10.0.0.0/8"}}}, ""},
		"no port":          {Config{Cluster: ClusterConfig{Listen: "0.0.0.0"}}, "cluster.listen"},
		"no room for two":  {Config{Cluster: ClusterConfig{Listen: "0.0.0.0:65535"}}, "cluster.listen"},
		"a host's name":    {Config{Cluster: ClusterConfig{Listen: "gate:7946"}}, "cluster.listen"},
		"advertise a name": {Config{Cluster: ClusterConfig{Advertise: "gate"}}, "cluster.advertise"},
		"seed without id":  {Config{Cluster: ClusterConfig{Seeds: []string{"gate:7946"}}}, "cluster.seeds[0]"},
		"one address":      {Config{Cluster: ClusterConfig{Allowed: []string{"10.0.0.1"}}}, "cluster.allowed[0]"},
		"afar":             {Config{Admin: AdminConfig{Listen: "0.0.0.0:7948", Cert: "a", Key: "b"}}, ""},
		"half a pair":      {Config{Admin: AdminConfig{Listen: "0.0.0.0:7948", Cert: "a"}}, "admin.cert"},
		"afar, no port":    {Config{Admin: AdminConfig{Listen: "0.0.0.0"}}, "admin.listen"},
	} {
		c.config.Node.Data = "/var/lib/mayfly"
		faults := c.config.Validate()
		if c.want == "" && len(faults) > 0 || c.want != "" && (len(faults) != 1 || faults[c.want] == nil) {
			t.Errorf("%s: %v, want a fault at %q", name, faults, c.want)
		}
		for path, err := range faults {
			if strings.TrimSpace(err.Error()) == "" {
				t.Errorf("%s: %s says nothing", name, path)
			}
		}
	}
}
