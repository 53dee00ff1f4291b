package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	"mayfly/agent/egress"
	"mayfly/agent/journal"
	"mayfly/agent/meter"
	"mayfly/agent/outbox"
	"mayfly/agent/placement"
	"mayfly/agent/secret"
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
	world    World
	restart  func() // this agent drains, and another one follows in this process

	joining    sync.Mutex           // one change of membership at a time
	gone       atomic.Bool          // this node leaves, and says nothing more of itself
	describing sync.Mutex           // held while it does
	member     *identity.Membership // nil = alone
	orders     *orders              // nil = alone
	pool       *pool                // nil = alone

	// In the order of an event's journey.
	store    *store.Store
	report   store.Report
	catalog  *catalog.Catalog
	vault    *secret.Vault
	modules  *artifact.Store
	engine   Engine
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
	access   *admin.Tokens // of operators from afar
	afar     net.Listener  // nil = none
	stories  *stories

	viewer   *viewer
	egress   *egress.Client
	reconcil sync.Mutex // one reconciliation at a time
	ready    readiness
	usage    *accounts
	meter    *meter.Meter
	copies   *meter.Copies // of other nodes' usage
	budgets  *budgets
	keeping  atomic.Pointer[keptModules]
	trials   canaries
}

// Options are what an agent is told besides its configuration.
type Options struct {
	Version  string
	Settings func() []admin.Setting // the effective configuration, for `mayfly config show`; nil = none
	Log      *slog.Logger
	Notify   sdnotify.Notifier // who is told how the agent is; the zero value tells nobody

	// Restart makes the process drain this agent and start another one with the same configuration, as after joining a cluster. It must
	// not wait for that. nil = somebody else does it.
	Restart func()

	CompileCommand []string // see wasm.Config; for tests
	World          World    // what the agent has of its machine
}

// New makes an agent: it opens what is on disk, checks it, and starts nothing. Every error says what to do about it.
func New(cfg Config, o Options) (*Agent, error) {
	a := &Agent{cfg: cfg, version: o.Version, settings: o.Settings, log: o.Log, notify: o.Notify, world: o.World.orReal(), began: time.Now()}
	if a.settings == nil {
		a.settings = func() []admin.Setting { return nil }
	}
	if a.restart = o.Restart; a.restart == nil {
		a.restart = func() { a.log.Warn("start the agent again for this to take effect") }
	}
	for _, stage := range []func(*Options) error{a.openDisk, a.openCatalog, a.openEngine, a.openPool, a.openSecrets, a.openBrokers, a.openView, a.openUsage, a.openJourney, a.openDoors} {
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
	if _, err = os.Stat(a.path("store")); err == nil {
		if err = identity.Missing(a.cfg.Node.Data); err != nil {
			return err
		}
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
	if err = a.openStore(); err != nil {
		return err
	}
	if !a.report.Clean() {
		a.log.Warn("the store was not as it was left", "report", fmt.Sprintf("%+v", a.report))
	}
	if err = a.depart(); err != nil {
		return err
	}
	a.modules, err = artifact.Open(a.path("modules"), artifact.Options{Quota: a.cfg.Limits.Modules})
	return err
}

func (a *Agent) openStore() (err error) {
	a.store, a.report, err = store.Open(store.Config{
		Dir: a.path("store"), Floor: a.cfg.Store.Floor, Ballast: a.cfg.Store.Ballast,
	}, a.log.With("part", "store"))
	return err
}

// openCatalog reads what should run, and whose orders count in that.
func (a *Agent) openCatalog(*Options) error {
	o := catalog.Options{Node: a.node.ID, Now: time.Now, Log: a.log.With("part", "catalog"), Built: built()}
	member, err := identity.Open(a.path("cluster"), a.node, nil)
	switch {
	case errors.Is(err, identity.ErrNoCluster):
	case err != nil:
		return err
	default:
		a.member = member
		if a.orders, err = openOrders(a.path("cluster"), a.node, member); err != nil {
			return err
		}
		o.Verify, o.Sign = a.orders.verify, a.orders.sign
	}
	a.catalog, err = catalog.Open(a.store, o)
	return err
}

func (a *Agent) path(name string) string { return filepath.Join(a.cfg.Node.Data, name) }

func (a *Agent) openEngine(o *Options) (err error) {
	engine, err := a.world.Engine(wasm.Config{
		CacheDir: a.path("native"), Modules: shelf{a}, Slots: a.cfg.Limits.Slots, SlotMemory: a.cfg.Limits.Memory,
		CompileCommand: o.CompileCommand,
	}, a.log.With("part", "engine"))
	if err == nil {
		a.engine = engine
	}
	return err
}

// shelf lets the engine fetch modules: from the artifact store and, in a cluster, from the nodes that have them.
type shelf struct{ agent *Agent }

// Module implements wasm.Modules.
func (s shelf) Module(ctx context.Context, d function.Digest) ([]byte, error) {
	if p := s.agent.pool; p != nil {
		return p.fetch.Module(ctx, d)
	}
	return s.agent.modules.Read(d)
}

// blob hands a module to another node.
func (a *Agent) blob(d function.Digest) (io.ReadSeekCloser, int64, error) {
	text, err := a.modules.Read(d)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(text), io.NopCloser(nil)}, int64(len(text)), nil
}

// openView says what this node is to placement.
func (a *Agent) openView(*Options) error {
	info := a.engine.Info()
	self := placement.Node{
		Capabilities: a.capabilities(), ID: a.cfg.Node.Name, Name: a.cfg.Node.Name, Arch: runtime.GOARCH, OS: runtime.GOOS, Labels: a.cfg.Node.Labels, Zone: a.cfg.Cluster.Zone,
		Slots: info.Slots, Speed: 1, Memory: info.SlotMemory,
	}
	if a.pool != nil {
		own, err := a.ownWish()
		if err != nil {
			return err
		}
		w := wishOf(a.catalog.Snapshot(), a.node.ID).with(own)
		self.ID, self.Labels, self.Draining = a.node.ID, a.labels(w), w.Drain
	}
	a.viewer = newViewer(a.pool, self)
	return nil
}

func (a *Agent) openBrokers(*Options) (err error) {
	if a.sites, err = sites(&a.cfg, a.world.Dial, a.log.With("part", "mqtt")); err != nil {
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
	a.egress = egress.New(egress.Config{Agent: "mayfly/" + a.version})
	a.dispatch = dispatch.New(dispatch.Config{
		Node: a.cfg.Node.Name, Workers: a.engine.Info().Slots, MaxQueued: a.cfg.Limits.Queued,
		SpillAfter: a.cfg.Limits.SpillAfter, Window: a.window(),
	}, dispatch.Deps{
		Local: a.engine, Store: weighed{a.store, a.usage}, Journal: a.journal, Loader: a.journal, Graves: a.journal, Outbox: a.outbox, Changelog: a.changelog, Owner: a.stateOwner, View: a.viewer, Peers: a.pool.invokers(), Probe: a.pool.prober(),
		Observer: a.stories, Secrets: a.secrets, HTTP: a.egress, Log: a.log.With("part", "dispatch"),
	})
	a.ticks = newSchedules(a.store, a.dispatch.Post, a.log.With("part", "cron"))
	if a.pool != nil {
		if a.ticks.fired, err = newFired(a.store, func(b []byte) error { return a.pool.gossip.Announce(ticksState, b) }); err != nil {
			return err
		}
		if err = a.pool.gossip.AddState(ticksState, a.ticks.fired); err != nil {
			return err
		}
	}
	a.subs = newSubscriptions(a.node.ID, a.sites, a.cfg.DefaultBroker(), a.store, a.log.With("part", "mqtt"))
	if a.pool != nil {
		a.subs.join(&team{
			box: a.outbox, moved: a.moved, room: a.dispatch.Room,
			cluster: a.member.Cluster(), self: a.node.ID, members: &electorate{a.pool, a.viewer}, events: a.dispatch, name: a.nameOf,
		})
	}
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
	if err = a.openRemote(); err != nil {
		return err
	}
	backend := admin.Backend{
		Functions: a, Releases: releases{a}, Invoker: a, DeadLetters: &graves{a.journal, a.dispatch, a.find}, Bus: a, Watcher: a.stories, Reporter: a,
		Clusters: a, Leaver: a, Orders: ordering{a}, Nodes: nodes{a}, Explainer: explainer{a}, Keys: keyring{a}, Meter: metering{a}, Access: a.access, Secrets: sealing{a},
	}
	if a.door, err = admin.NewServer(admin.Config{Group: a.cfg.Admin.Group}, backend, a.log.With("part", "admin")); err != nil {
		return err
	}
	a.socket, err = a.world.Socket(path, a.cfg.Admin.Group)
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
	if a.afar != nil {
		faults = append(faults, ignoreClosed(a.afar.Close()))
	}
	if a.egress != nil {
		a.egress.Close()
	}
	faults = append(faults, a.pool.close())
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
