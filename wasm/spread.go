package wasm

// A module that is called from many processors at once is loaded into all shards; a large one is not, because its calls last
// so long that they seldom meet.
const (
	spreadAfter = 1000    // calls in another shard than their processor's
	spreadSize  = 1 << 20 // bytes of native code
)

// away counts a call of m in another shard than its processor's, and has m spread when there were many.
func (e *Engine) away(m *module) {
	if m.code.Size() > spreadSize || m.away.Load() >= spreadAfter || m.away.Add(1) != spreadAfter {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return
	}
	m.users++
	e.loads.Go(func() {
		defer e.unuse(m)
		if err := e.lib.Spread(m.code); err != nil {
			e.log.Warn("a module stays in one shard: its calls from other processors wait for each other", "module", m.key.digest.Short(), "err", err)
		}
		e.shrink()
	})
}
