package agent

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"mayfly/admin"
	"mayfly/cluster"
	"mayfly/cluster/peer"
	"mayfly/function"
	"mayfly/wasm"
	"mayfly/wasm/admission"
)

// World is what an agent has of its machine besides the disk and the clock: the network and the sandboxes. What is nil is the machine's
// own; a simulation of many agents in one process brings another.
type World struct {
	Dial   peer.Dial                                                                // to other nodes and to brokers
	Listen func(network, address string) (net.Listener, error)                      // for other nodes, and for operators from afar
	Socket func(path, group string) (net.Listener, error)                           // for operators on this device
	Gossip func(bind netip.AddrPort, advertise netip.Addr) (cluster.Network, error) // of the cluster; open when it is returned
	Engine func(config wasm.Config, log *slog.Logger) (Engine, error)               // what functions run in
}

// Engine is what functions run in. Its methods are those of wasm.Engine, which says what they promise.
type Engine interface {
	Loader
	Invoke(ctx context.Context, call *function.Call, res *function.Result) error
	Info() wasm.Info
	Stats() wasm.Stats
	Close()
}

// Loader is the part of an Engine that makes functions ready to be run.
type Loader interface {
	Compile(ctx context.Context, module []byte, limits admission.Limits) (wasm.ModuleInfo, error)
	Load(ctx context.Context, f *function.Function) error
	Unload(name string)
}

// orReal fills in the machine's own for what is nil. Dial stays nil: whoever dials has options of its own for the machine's sockets.
func (w World) orReal() World {
	if w.Listen == nil {
		w.Listen = net.Listen
	}
	if w.Socket == nil {
		w.Socket = admin.Listen
	}
	if w.Gossip == nil {
		w.Gossip = func(bind netip.AddrPort, advertise netip.Addr) (cluster.Network, error) {
			return cluster.ListenUDP(bind, advertise)
		}
	}
	if w.Engine == nil {
		w.Engine = func(config wasm.Config, log *slog.Logger) (Engine, error) { return wasm.New(config, log) }
	}
	return w
}
