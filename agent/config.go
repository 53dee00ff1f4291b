package agent

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mayfly/function"
	"mayfly/triggers/gateway/issuer"
	"mayfly/triggers/mqtt"
)

// Config is what an operator tells one agent. Every field is written once, here: the sample file, the schema and
// `mayfly config show` are made from it.
type Config struct {
	Node     NodeConfig              `json:"node" doc:"this device"`
	Embedded EmbeddedConfig          `json:"embedded" doc:"the broker inside the agent, for a site that has none"`
	Brokers  map[string]BrokerConfig `json:"broker" doc:"MQTT brokers by name; triggers that name none use the default one"`
	Gateway  GatewayConfig           `json:"gateway" doc:"functions over HTTP"`
	Admin    AdminConfig             `json:"admin" doc:"the operator's door"`
	Cluster  ClusterConfig           `json:"cluster" doc:"the other devices of this site; has no effect until mayfly init or mayfly join"`
	Limits   LimitsConfig            `json:"limits" doc:"bounds of the whole agent"`
	Store    StoreConfig             `json:"store" doc:"what must survive a power cut"`
	Log      LogConfig               `json:"log" doc:"the agent's own log, on standard error"`
}

// NodeConfig says who this is.
type NodeConfig struct {
	Name    string   `json:"name" doc:"shown to people and to functions; default: the host name"`
	Data    string   `json:"data" default:"/var/lib/mayfly" doc:"directory of everything the agent keeps"`
	Labels  []string `json:"labels" doc:"what placement.require and placement.prefer of manifests may ask for, such as \"gpio\""`
	Default string   `json:"default_broker" doc:"which broker triggers use that name none; default: the only one configured, else the embedded one"`
	Secrets string   `json:"secrets" doc:"directory with one file per secret that manifests may name; default: the systemd credentials directory"`
}

// EmbeddedConfig configures the broker inside the agent.
type EmbeddedConfig struct {
	Listen []string `json:"listen" doc:"addresses such as \"127.0.0.1:1883\"; none: no embedded broker. Addresses off loopback need users and a certificate"`
	Users  string   `json:"users" doc:"file of users, password hashes and topics"`
	Cert   string   `json:"cert" doc:"PEM file of its certificate"`
	Key    string   `json:"key" doc:"PEM file of its key"`
}

// BrokerConfig configures one MQTT broker.
type BrokerConfig struct {
	URLs         []string      `json:"urls" doc:"tcp://host:port, tls://host:port or unix:///path; tried in turn"`
	User         string        `json:"user" doc:"empty: anonymous"`
	PasswordFile string        `json:"password_file" doc:"file that holds the password"`
	Credential   string        `json:"credential" doc:"instead of password_file: name of a systemd credential"`
	CA           string        `json:"ca" doc:"PEM file of authorities; default: the system's"`
	Cert         string        `json:"cert" doc:"PEM file of our certificate"`
	Key          string        `json:"key" doc:"PEM file of our key"`
	ServerName   string        `json:"server_name" doc:"name expected in the broker's certificate; default: the URL's host"`
	KeepAlive    time.Duration `json:"keep_alive" default:"30s" min:"1s" max:"5m" doc:"a silent link is found dead after this and ten seconds"`
	InFlight     int           `json:"in_flight" default:"256" min:"1" max:"16384" doc:"publishes that wait for the broker's confirmation at once"`
	BindClientID bool          `json:"bind_client_id" doc:"the broker ties client ids to users or certificates: in a cluster every node uses ids of its own, and what is published while a trigger changes its owner may be lost"`
	Window       int           `json:"window" default:"20" min:"1" max:"65535" doc:"how many unacknowledged messages the broker sends; mosquitto's max_inflight_messages. When a trigger's window stays full its events spill to the journal"`
}

// GatewayConfig configures the HTTP gateway.
type GatewayConfig struct {
	Listen   string                  `json:"listen" doc:"address such as \"127.0.0.1:8480\"; empty: no gateway. Off loopback it needs cert and key, or plain = true"`
	Cert     string                  `json:"cert" doc:"PEM file of its certificate; read again when it changes"`
	Key      string                  `json:"key" doc:"PEM file of its key"`
	ClientCA string                  `json:"client_ca" doc:"PEM file of the authority of callers' certificates, for routes with auth = \"mtls\""`
	Plain    bool                    `json:"plain" doc:"HTTP without TLS off loopback too: only where something in front of it speaks TLS"`
	Tokens   string                  `json:"tokens" doc:"file with a line NAME sha256:HASH [functions=a,b] [expires=TIME] for each token; read again when it changes"`
	Issuers  map[string]IssuerConfig `json:"issuer" doc:"OpenID Connect providers whose tokens routes with auth = \"jwt\" ask for"`
	Origins  []string                `json:"cors" doc:"origins of web pages that may read answers, such as \"https://app.example\"; \"*\": all"`
	Rate     function.Rate           `json:"rate" doc:"requests of one caller to one route, such as \"10/s\", unless the manifest says another; empty: unlimited"`
	Proxies  []string                `json:"trusted_proxies" doc:"addresses or networks of proxies in front of it, such as \"10.0.0.5\": callers are told apart by what they say of them; default: nobody is believed"`
	Said     string                  `json:"forwarded_header" default:"x-forwarded-for" words:"x-forwarded-for|forwarded" doc:"header in which trusted proxies say it; the proxy must set it, not pass it on"`
	Body     int64                   `json:"body" default:"1MiB" unit:"bytes" min:"1KiB" max:"256MiB" doc:"largest request; beyond it 413"`
	Timeout  time.Duration           `json:"timeout" default:"30s" min:"100ms" max:"10m" doc:"longest wait for an answer"`
	Waiting  int                     `json:"concurrency" default:"64" min:"1" max:"10000" doc:"requests at once; beyond it 503"`
}

// IssuerConfig configures one OpenID Connect provider.
type IssuerConfig struct {
	URL      string        `json:"url" doc:"as the provider writes it in its tokens; https, or http on this device"`
	Audience []string      `json:"audience" doc:"a token must be meant for one of them; many providers put the client's id there"`
	CA       string        `json:"ca" doc:"PEM file of authorities; default: the system's"`
	MaxAge   time.Duration `json:"max_age" default:"24h" min:"1m" max:"2160h" doc:"how long the provider may be out of reach before its tokens are refused"`
	Refresh  time.Duration `json:"refresh" default:"15m" min:"10s" max:"24h" doc:"how often its keys are fetched, at least twice in max_age: as long may a withdrawn key live on"`
}

// AdminConfig configures the operator's socket.
type AdminConfig struct {
	Socket string `json:"socket" doc:"path of the unix socket; default: /run/mayfly/admin.sock, or below XDG_RUNTIME_DIR"`
	Group  string `json:"group" doc:"members may use the socket besides root and the agent's own user"`
	Listen string `json:"listen" doc:"address for operators from afar, such as \"0.0.0.0:7948\": TLS, and only with a token of mayfly access create. Needs a cluster, or cert and key"`
	Cert   string `json:"cert" doc:"PEM file of its certificate; default: the node's own of the cluster, which tokens name"`
	Key    string `json:"key" doc:"PEM file of its key"`
}

// ClusterConfig says how the devices of a site reach each other.
type ClusterConfig struct {
	Listen    string   `json:"listen" default:"0.0.0.0:7946" doc:"address of gossip, UDP and TCP. Calls between nodes, mutual TLS, use the port after it"`
	Advertise string   `json:"advertise" doc:"IP address at which others reach this node; default: found out"`
	Seeds     []string `json:"seeds" doc:"members to look for besides the remembered ones, as \"node-id@host:port\""`
	Zone      string   `json:"zone" doc:"part of the site, such as \"hall-2\": functions are placed in the own zone first"`
	Allowed   []string `json:"allowed" doc:"networks members may be in, such as \"10.1.0.0/16\"; default: any"`
}

// validate adds what is wrong with it to faults.
func (c *ClusterConfig) validate(faults map[string]error) {
	if at, err := netip.ParseAddrPort(c.Listen); c.Listen != "" && (err != nil || at.Port() == 1<<16-1) {
		faults["cluster.listen"] = fmt.Errorf("%q is not an IP address and a port whose successor is one, such as 0.0.0.0:7946", c.Listen)
	}
	if _, err := netip.ParseAddr(c.Advertise); c.Advertise != "" && err != nil {
		faults["cluster.advertise"] = fmt.Errorf("%q is not an IP address", c.Advertise)
	}
	for i, s := range c.Seeds {
		node, address, ok := strings.Cut(s, "@")
		if _, _, err := net.SplitHostPort(address); !ok || node == "" || err != nil {
			faults[fmt.Sprintf("cluster.seeds[%d]", i)] = fmt.Errorf("%q is not node-id@host:port; mayfly nodes ls -o wide shows them", s)
		}
	}
	for i, s := range c.Allowed {
		if _, err := netip.ParsePrefix(s); err != nil {
			faults[fmt.Sprintf("cluster.allowed[%d]", i)] = fmt.Errorf("%q is not a network such as 10.1.0.0/16", s)
		}
	}
}

// LimitsConfig bounds the agent.
type LimitsConfig struct {
	Slots      int           `json:"slots" default:"64" min:"1" max:"1024" doc:"sandboxes at once; fewer when the address space is small. Two for each processor where functions compute for long: what finds none free goes to other nodes"`
	Memory     int64         `json:"memory" default:"64MiB" unit:"bytes" min:"1MiB" max:"4GiB" doc:"most linear memory of one sandbox"`
	Queued     int           `json:"queued" default:"10000" min:"1" max:"1000000" doc:"QoS 0 events waiting; beyond it they are shed and counted"`
	Journal    int64         `json:"journal" default:"64MiB" unit:"bytes" min:"1MiB" max:"1TiB" doc:"bytes of journaled events per function, and of its dead letters; beyond it the oldest dead letters make room"`
	Outbox     int64         `json:"outbox" default:"64MiB" unit:"bytes" min:"1MiB" max:"1TiB" doc:"bytes of publishes on disk that wait for a broker, per function"`
	Modules    int64         `json:"modules" default:"512MiB" unit:"bytes" min:"8MiB" max:"1TiB" doc:"bytes of modules on disk"`
	SpillAfter time.Duration `json:"spill_after" default:"500ms" min:"10ms" max:"1m" doc:"how long a window may stay full before its events are journaled"`
	Drain      time.Duration `json:"drain" default:"20s" min:"1s" max:"10m" doc:"how long a stop may take"`
}

// StoreConfig configures the store.
type StoreConfig struct {
	Floor   int64 `json:"floor" default:"96MiB" unit:"bytes" min:"16MiB" max:"1TiB" doc:"free disk space below which nothing is written"`
	Ballast int64 `json:"ballast" default:"16MiB" unit:"bytes" min:"1MiB" max:"1TiB" doc:"held back, and given up when the disk is full"`
}

// LogConfig configures the agent's own log.
type LogConfig struct {
	Level  string `json:"level" default:"info" words:"debug|info|warn|error" doc:"least level that is logged"`
	Format string `json:"format" default:"text" words:"text|json" doc:"text for people, json for collectors"`
}

// EmbeddedName is the embedded broker's name in manifests and events.
const EmbeddedName = "local"

// DefaultBroker returns the name of the broker that triggers use which name none; "" when there is no broker.
func (c *Config) DefaultBroker() string {
	switch {
	case c.Node.Default != "":
		return c.Node.Default
	case len(c.Brokers) == 1:
		for name := range c.Brokers {
			return name
		}
	case len(c.Embedded.Listen) > 0:
		return EmbeddedName
	}
	return ""
}

// broker returns the settings of the external broker of that name as its package wants them.
func (c *Config) broker(name string) mqtt.Broker {
	b := c.Brokers[name]
	return mqtt.Broker{
		Name: name, URLs: b.URLs, User: b.User, PasswordFile: b.PasswordFile, Credential: b.Credential,
		TLS:       mqtt.TLS{CA: b.CA, Cert: b.Cert, Key: b.Key, ServerName: b.ServerName},
		KeepAlive: b.KeepAlive, Window: b.InFlight,
	}.WithDefaults()
}

// Validate reports every fault that concerns more than one field, by the path of the field.
func (c *Config) Validate() map[string]error {
	faults := map[string]error{}
	for _, name := range slices.Sorted(maps.Keys(c.Brokers)) {
		if name == EmbeddedName {
			faults["broker."+name] = fmt.Errorf("%q is the embedded broker's name; choose another", name)
		}
		if err := c.broker(name).Validate(); err != nil {
			faults["broker."+name] = err
		}
	}
	if name := c.Node.Default; name != "" && name != EmbeddedName && c.Brokers[name].URLs == nil {
		faults["node.default_broker"] = fmt.Errorf("there is no [broker.%s]", name)
	}
	if len(c.Brokers) > 1 && c.DefaultBroker() == "" {
		faults["node.default_broker"] = errors.New("several brokers are configured: say which one triggers use that name none")
	}
	if !filepath.IsAbs(c.Node.Data) {
		faults["node.data"] = fmt.Errorf("%q is not an absolute path", c.Node.Data)
	}
	for i, address := range c.Embedded.Listen {
		if host, _, err := net.SplitHostPort(address); err != nil {
			faults[fmt.Sprintf("embedded.listen[%d]", i)] = err
		} else if !loopback(host) && (c.Embedded.Users == "" || c.Embedded.Cert == "" || c.Embedded.Key == "") {
			faults[fmt.Sprintf("embedded.listen[%d]", i)] = fmt.Errorf("%s can be reached from the network: it needs users, cert and key", address)
		}
	}
	c.Gateway.validate(faults)
	c.Cluster.validate(faults)
	c.Admin.validate(faults)
	return faults
}

func (a *AdminConfig) validate(faults map[string]error) {
	if _, _, err := net.SplitHostPort(a.Listen); a.Listen != "" && err != nil {
		faults["admin.listen"] = err
	}
	if (a.Cert == "") != (a.Key == "") {
		faults["admin.cert"] = errors.New("cert and key belong together")
	}
}

func (g *GatewayConfig) validate(faults map[string]error) {
	if (g.Cert == "") != (g.Key == "") {
		faults["gateway.cert"] = errors.New("cert and key belong together")
	}
	if g.ClientCA != "" && g.Cert == "" {
		faults["gateway.client_ca"] = errors.New("callers show certificates over TLS only: it needs cert and key")
	}
	for i := range g.Proxies {
		if _, err := proxy(g.Proxies[i]); err != nil {
			faults[fmt.Sprintf("gateway.trusted_proxies[%d]", i)] = err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		if err := g.issuer(name).Check(); err != nil {
			faults["gateway.issuer."+name] = err
		}
	}
	if g.Listen == "" {
		return
	}
	if host, _, err := net.SplitHostPort(g.Listen); err != nil {
		faults["gateway.listen"] = err
	} else if !loopback(host) && g.Cert == "" && !g.Plain {
		faults["gateway.listen"] = fmt.Errorf("%s can be reached from the network: it needs cert and key, or plain = true", g.Listen)
	}
}

// proxy reads an address or a network of a proxy. All addresses are none: a caller could then say what he likes.
func proxy(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not an address or a network such as 10.1.0.0/16", text)
	}
	if p.Bits() == 0 {
		return p, fmt.Errorf("%q is everybody: anybody could say who he is", text)
	}
	return p.Masked(), nil
}

// issuer returns the settings of the provider of that name as its package wants them.
func (g *GatewayConfig) issuer(name string) issuer.Config {
	c := g.Issuers[name]
	return issuer.Config{Name: name, URL: c.URL, Audience: c.Audience, CA: c.CA, MaxAge: c.MaxAge, Refresh: c.Refresh}
}

// Trial is the configuration of an agent that answers dry runs only: no broker, no gateway, everything below dir.
func Trial(dir, socket string) Config {
	return Config{
		Node:   NodeConfig{Name: "trial", Data: dir},
		Admin:  AdminConfig{Socket: socket},
		Limits: LimitsConfig{Slots: 2, Memory: 64 << 20, Drain: 2 * time.Second},
		Log:    LogConfig{Level: "warn"},
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
