package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mayfly/internal/tomlcheck"
)

type config struct {
	Name   string            `json:"name" doc:"what it is called"`
	Log    logConfig         `json:"log" doc:"the log"`
	Broker map[string]broker `json:"broker" doc:"brokers by name"`
	Labels map[string]string `json:"labels" doc:"free words"`
	Floor  int64             `json:"floor" unit:"bytes" default:"32MiB" min:"1MiB" doc:"free space"`
	Ratio  float64           `json:"ratio" default:"0.5"`
	Hosts  []string          `json:"hosts" doc:"names of hosts; none: all"`
}

type logConfig struct {
	Level string        `json:"level" default:"info" words:"debug|info|warn" doc:"least level that is logged"`
	Every time.Duration `json:"every" default:"1m0s" min:"1s" max:"1h"`
}

type broker struct {
	URLs []string `json:"urls" required:"true" doc:"where it is"`
	QoS  int      `json:"qos" default:"1" max:"1"`
}

func (b *broker) Validate() map[string]error {
	if len(b.URLs) > 2 {
		return map[string]error{"urls": errors.New("too many; two are enough")}
	}
	return nil
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func sources(t *testing.T, files map[string]string) Sources {
	dir := t.TempDir()
	write(t, dir, files)
	return Sources{File: filepath.Join(dir, "m.toml"), Dir: filepath.Join(dir, "conf.d"), Prefix: "MAYFLY_"}
}

func TestLayers(t *testing.T) {
	src := sources(t, map[string]string{
		"m.toml":               "name = \"file\"\nfloor = \"64MiB\"\nratio = 0.25\n[log]\nlevel = \"debug\"\n[broker.site]\nurls = [\"a\"]\n[labels]\nroom = \"1\"\n",
		"conf.d/10-a.toml":     "ratio = 0.0\nhosts = [\"x\", \"y\"]\n[broker.site]\nqos = 0\n",
		"conf.d/20-b.toml":     "hosts = [\"z\"]\n[broker.other]\nurls = [\"b\"]\n",
		"conf.d/.30-swap.toml": "nonsense",
		"conf.d/README":        "nonsense",
	})
	src.Environ = []string{"PATH=/bin", "MAYFLY_LOG__EVERY=5s", "MAYFLY_NAME=env", "MAYFLY_SOCKET=/x", "MAYFLY_BROKER__SITE__URLS=c,d", "MAYFLYING=1"}
	src.Ignore = []string{"MAYFLY_SOCKET"}
	src.Flags = map[string]string{"name": "flag"}
	var c config
	origins, err := Load(&c, src)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		Name: "flag", Log: logConfig{"debug", 5 * time.Second}, Labels: map[string]string{"room": "1"}, Floor: 64 << 20, Hosts: []string{"z"},
		Broker: map[string]broker{"site": {[]string{"c", "d"}, 0}, "other": {[]string{"b"}, 1}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	confd := func(name string) string { return filepath.Join(src.Dir, name) }
	wantList := []Entry{
		{"name", `"flag"`, Origin{LayerFlag, "--name"}},
		{"log.level", `"debug"`, Origin{LayerFile, src.File + ":5:9"}},
		{"log.every", `"5s"`, Origin{LayerEnv, "MAYFLY_LOG__EVERY"}},
		{"broker.other.urls", `["b"]`, Origin{LayerFile, confd("20-b.toml:3:1")}},
		{"broker.other.qos", `1`, Origin{Layer: LayerDefault}},
		{"broker.site.urls", `["c", "d"]`, Origin{LayerEnv, "MAYFLY_BROKER__SITE__URLS"}},
		{"broker.site.qos", `0`, Origin{LayerFile, confd("10-a.toml:4:7")}},
		{"labels.room", `"1"`, Origin{LayerFile, src.File + ":9:8"}},
		{"floor", `"64MiB"`, Origin{LayerFile, src.File + ":2:9"}},
		{"ratio", `0.0`, Origin{LayerFile, confd("10-a.toml:1:9")}},
		{"hosts", `["z"]`, Origin{LayerFile, confd("20-b.toml:1:1")}},
	}
	if got := origins.List(&c); !reflect.DeepEqual(got, wantList) {
		t.Errorf("got  %v\nwant %v", got, wantList)
	}
}

func TestAllFaultsOfAllLayers(t *testing.T) {
	src := sources(t, map[string]string{
		"m.toml":        "nmae = 1\n[log]\nlevel = \"loud\"\nevery = \"2h\"\n",
		"conf.d/a.toml": "[broker.site]\nqos = 2\n[broker.x]\nurls = [\"a\", \"b\", \"c\"]\n",
	})
	src.Environ = []string{"MAYFLY_FLOOR=much", "MAYFLY_LOG__LEVL=info"}
	src.Flags = map[string]string{"hots": "a"}
	var c config
	_, err := Load(&c, src)
	faults, ok := errors.AsType[tomlcheck.Faults](err)
	if !ok {
		t.Fatalf("%T %v", err, err)
	}
	got := strings.ReplaceAll(faults.Error(), filepath.Dir(src.File)+"/", "")
	want := []string{
		"m.toml:1:1: nmae: unknown key", `did you mean "name"?`, `m.toml:3:9: log.level: "loud" is not allowed here`, "m.toml:4:9: log.every: the most is 1h",
		"conf.d/a.toml:1:9: broker.site.urls: it is missing", "conf.d/a.toml:2:7: broker.site.qos: the most is 1",
		"conf.d/a.toml:4:1: broker.x.urls: too many", "two are enough",
		`MAYFLY_FLOOR: floor: "much" is not a size`, `MAYFLY_LOG__LEVL: log.levl: unknown key`, `did you mean "level"?`, "--hots: hots: unknown key", `did you mean "hosts"?`,
	}
	at := 0
	for _, w := range want {
		i := strings.Index(got[at:], w)
		if i < 0 {
			t.Fatalf("%q is not in its place in\n%s", w, got)
		}
		at += i
	}
	if len(faults) != 9 {
		t.Errorf("%d faults:\n%s", len(faults), got)
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	var c config
	if _, err := Load(&c, Sources{File: missing}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Load(&c, Sources{File: missing, Optional: true, Dir: missing}); err != nil {
		t.Error(err)
	}
	if _, err := Load(&c, Sources{}); err != nil || c.Floor != 32<<20 || c.Log.Level != "info" {
		t.Error(err, c)
	}
	if _, err := Load(&c, Sources{Prefix: "M_", Environ: []string{"M_BROKER__X__QOS=0"}}); err == nil || err.Error() != "M_BROKER__X__QOS: broker.x.urls: it is missing\n      = it must be said. where it is" {
		t.Error(err)
	}
	if _, err := Load(&c, Sources{File: t.TempDir()}); err == nil {
		t.Error("a directory was read")
	}
}

// The sample means the defaults as it is, and again with every setting taken out of its comment.
func TestSample(t *testing.T) {
	sample := string(Sample("The settings of a test.", &config{Name: "host"}))
	for _, want := range []string{
		"# The settings of a test.\n", "# What it is called.\n#name = \"host\"\n", "# The log.\n[log]\n", "# Least level that is logged. One of debug, info, warn.\n#level = \"info\"\n",
		"#every = \"1m\"\n", "# Brokers by name.\n#[broker.NAME]\n", "# Where it is. It must be said.\n#urls = []\n", "#[labels]\n#NAME = \"\"\n", "# Free space. At least 1MiB.\n#floor = \"32MiB\"\n",
	} {
		if !strings.Contains(sample, want) {
			t.Errorf("%q is not in\n%s", want, sample)
		}
	}
	for line := range strings.Lines(sample) {
		if len(line) > sampleWidth+1 {
			t.Errorf("a long line: %s", line)
		}
	}
	var bare config
	if _, err := Load(&bare, sources(t, map[string]string{"m.toml": sample})); err != nil || !reflect.DeepEqual(bare, defaults(t)) {
		t.Errorf("%v, %+v", err, bare)
	}
	var b strings.Builder
	for line := range strings.Lines(sample) {
		if !strings.HasPrefix(line, "# ") {
			line = strings.TrimPrefix(line, "#")
		}
		b.WriteString(line)
	}
	var full config
	if _, err := Load(&full, sources(t, map[string]string{"m.toml": b.String()})); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	want := defaults(t)
	want.Name, want.Hosts = "host", []string{}
	want.Broker, want.Labels = map[string]broker{"NAME": {[]string{}, 1}}, map[string]string{"NAME": ""}
	if !reflect.DeepEqual(full, want) {
		t.Errorf("got  %+v\nwant %+v", full, want)
	}
}

func defaults(t *testing.T) config {
	t.Helper()
	var c config
	if _, err := Load(&c, Sources{}); err != nil {
		t.Fatal(err)
	}
	return c
}
