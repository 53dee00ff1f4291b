package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/admin"
	"mayfly/agent/dispatch"
	"mayfly/agent/journal"
	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/cluster/catalog"
	"mayfly/cluster/identity"
	"mayfly/function"
	"mayfly/internal/sdnotify"
	"mayfly/store"
	"mayfly/triggers/gateway"
	"mayfly/triggers/gateway/issuer"
	"mayfly/wasm"
	"mayfly/wasm/artifact"
)

// Agent is one node. New makes it, Run runs it, once.
type Agent struct {
	cfg      Config
	version  string
	settings func() []admin.Setting
	log      *slog.Logger
	notify   sdnotify.Notifier
	node     identity.Node
	began    time.Time

	// In the order of an event's journey.
	store    *store.Store
	report   store.Report
	catalog  *catalog.Catalog
	modules  *artifact.Store
	engine   *wasm.Engine
	sites    map[string]*site
	outbox   *outbox.Outbox
	journal  *journal.Journal
	dispatch *dispatch.Dispatcher
	subs     *subscriptions
	ticks    *schedules
	gateway  *gateway.Gateway                  // nil = none
	issuers  []*issuer.Issuer                  // of the gateway's callers
	unserved atomic.Pointer[map[string]string] // routes by trigger, why nobody can call them
	door     *admin.Server
	socket   net.Listener
	stories  *stories

	self     placement.View
	reconcil sync.Mutex // one reconciliation at a time
	ready    readiness
}

// Options are what an agent is told besides its configuration.
type Options struct {
	Version  string
	Settings func() []admin.Setting // the effective configuration, for `mayfly config show`; nil = none
	Log      *slog.Logger
	Notify   sdnotify.Notifier // who is told how the agent is; the zero value tells nobody

	CompileCommand []string // see wasm.Config; for tests
}

// New makes an agent: it opens what is on disk, checks it, and starts nothing. Every error says what to do about it.
func New(cfg Config, o Options) (*Agent, error) {
	a := &Agent{cfg: cfg, version: o.Version, settings: o.Settings, log: o.Log, notify: o.Notify, began: time.Now()}
	if a.settings == nil {
		a.settings = func() []admin.Setting { return nil }
	}
	for _, stage := range []func(*Options) error{a.openDisk, a.openEngine, a.openBrokers, a.openJourney, a.openDoors} {
		if err := stage(&o); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	return a, nil
}

func (a *Agent) openDisk(*Options) (err error) {
	if err = os.MkdirAll(a.cfg.Node.Data, 0o750); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if a.node, err = identity.Load(a.cfg.Node.Data); err != nil {
		return err
	}
	if a.cfg.Node.Name == "" {
		if a.cfg.Node.Name, err = os.Hostname(); err != nil {
			return fmt.Errorf("host name: %w", err)
		}
	}
	a.stories = newStories(a.cfg.Node.Name)
	a.store, a.report, err = store.Open(store.Config{
		Dir: a.path("store"), Floor: a.cfg.Store.Floor, Ballast: a.cfg.Store.Ballast,
	}, a.log.With("part", "store"))
	if err != nil {
		return err
	}
	if !a.report.Clean() {
		a.log.Warn("the store was not as it was left", "report", fmt.Sprintf("%+v", a.report))
	}
	a.catalog, err = catalog.Open(a.store, catalog.Options{Node: a.node.ID, Now: time.Now, Log: a.log.With("part", "catalog")})
	if err != nil {
		return err
	}
	a.modules, err = artifact.Open(a.path("modules"), artifact.Options{Quota: a.cfg.Limits.Modules})
	return err
}

func (a *Agent) path(name string) string { return filepath.Join(a.cfg.Node.Data, name) }

func (a *Agent) openEngine(o *Options) (err error) {
	a.engine, err = wasm.New(wasm.Config{
		CacheDir: a.path("native"), Modules: shelf{a.modules}, Slots: a.cfg.Limits.Slots, SlotMemory: a.cfg.Limits.Memory,
		CompileCommand: o.CompileCommand,
	}, a.log.With("part", "engine"))
	if err != nil {
		return err
	}
	info := a.engine.Info()
	a.self = placement.View{Self: placement.Node{
		ID: a.cfg.Node.Name, Arch: runtime.GOARCH, OS: runtime.GOOS, Labels: a.cfg.Node.Labels,
		Slots: info.Slots, Speed: 1, Memory: info.SlotMemory,
	}}
	return nil
}

// shelf lets the engine fetch modules from the artifact store.
type shelf struct{ *artifact.Store }

// Module implements wasm.Modules.
func (s shelf) Module(_ context.Context, d function.Digest) ([]byte, error) { return s.Read(d) }

func (a *Agent) openBrokers(*Options) (err error) {
	if a.sites, err = sites(&a.cfg, a.log.With("part", "mqtt")); err != nil {
		return err
	}
	publishers := map[string]outbox.Publisher{}
	for name, s := range a.sites {
		publishers[name] = s
	}
	a.outbox, err = outbox.Open(outbox.Config{Default: a.cfg.DefaultBroker(), Quota: a.cfg.Limits.Outbox},
		publishers, a.store, a.log.With("part", "outbox"))
	return err
}

func (a *Agent) openJourney(*Options) (err error) {
	a.journal, err = journal.Open(journal.Config{Quota: a.cfg.Limits.Journal, DeadQuota: a.cfg.Limits.Journal}, a.store, a.log.With("part", "journal"))
	if err != nil {
		return err
	}
	a.dispatch = dispatch.New(dispatch.Config{
		Node: a.cfg.Node.Name, Workers: a.engine.Info().Slots, MaxQueued: a.cfg.Limits.Queued,
		SpillAfter: a.cfg.Limits.SpillAfter, Window: a.window(),
	}, dispatch.Deps{
		Local: a.engine, Store: a.store, Journal: a.journal, Loader: a.journal, Graves: a.journal, Outbox: a.outbox, View: a,
		Observer: a.stories, Secrets: a.secrets, Log: a.log.With("part", "dispatch"),
	})
	a.ticks = newSchedules(a.store, a.dispatch.Post, a.log.With("part", "cron"))
	a.subs = newSubscriptions(a.node.ID, a.sites, a.cfg.DefaultBroker(), a.store, a.log.With("part", "mqtt"))
	return nil
}

// window is the smallest in-flight window of the configured brokers.
func (a *Agent) window() int {
	smallest := 0
	for _, b := range a.cfg.Brokers {
		if b.Window > 0 && (smallest == 0 || b.Window < smallest) {
			smallest = b.Window
		}
	}
	return smallest
}

// View implements dispatch.Viewer: this node alone.
func (a *Agent) View(*function.Function) *placement.View { return &a.self }

func (a *Agent) openDoors(*Options) (err error) {
	if a.cfg.Gateway.Listen != "" {
		if a.gateway, err = a.newGateway(); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	path := a.cfg.Admin.Socket
	if path == "" {
		path = admin.DefaultSocket(os.Getenv, os.Getuid())
	}
	backend := admin.Backend{Functions: a, Invoker: a, DeadLetters: &graves{a.journal, a.dispatch, a.find}, Bus: a, Watcher: a.stories, Reporter: a}
	if a.door, err = admin.NewServer(admin.Config{Group: a.cfg.Admin.Group}, backend, a.log.With("part", "admin")); err != nil {
		return err
	}
	a.socket, err = admin.Listen(path, a.cfg.Admin.Group)
	return err
}

func (a *Agent) names() []string {
	var names []string
	for _, f := range a.catalog.List() {
		names = append(names, f.Name())
	}
	return names
}

// close gives up what New opened.
func (a *Agent) close() error {
	var faults []error
	if a.socket != nil {
		faults = append(faults, ignoreClosed(a.socket.Close()))
	}
	if a.engine != nil {
		a.engine.Close()
	}
	if a.modules != nil {
		faults = append(faults, a.modules.Close())
	}
	if a.store != nil {
		faults = append(faults, a.store.Close())
	}
	return errors.Join(faults...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
