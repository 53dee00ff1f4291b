package placement

// flow shares demands out among nodes: the most there is room for, by augmenting paths (Edmonds and Karp). Units are thousandths of a
// slot.
type flow struct {
	demand []int   // of each function
	size   []int   // of each node
	uses   [][]int // the nodes each function may use
	given  [][]int // what of each function is on each node
}

func newFlow(functions int, size []int) *flow {
	f := &flow{demand: make([]int, functions), size: size, uses: make([][]int, functions), given: make([][]int, functions)}
	for i := range f.given {
		f.given[i] = make([]int, len(size))
	}
	return f
}

func (f *flow) mayUse(function, node int) { f.uses[function] = append(f.uses[function], node) }

func (f *flow) served(function int) (sum int) {
	for _, n := range f.given[function] {
		sum += n
	}
	return sum
}

func (f *flow) used(node int) (sum int) {
	for i := range f.given {
		sum += f.given[i][node]
	}
	return sum
}

// run gives every function as much as there is room for.
func (f *flow) run() {
	for i := range f.demand {
		for f.served(i) < f.demand[i] && f.augment(i) {
		}
	}
}

// step is how a node was reached: for a function that may use it, and which has given up another node for it, or is the first.
type step struct{ function, from int }

// augment gives function more, by moving what others have where there is room. It reports whether there was a way.
func (f *flow) augment(function int) bool {
	const unseen = -2
	by := make([]step, len(f.size))
	for n := range by {
		by[n].from = unseen
	}
	var queue []int
	reach := func(fn, from int) {
		for _, n := range f.uses[fn] {
			if by[n].from == unseen {
				by[n] = step{fn, from}
				queue = append(queue, n)
			}
		}
	}
	reach(function, Here)
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if room := f.size[n] - f.used(n); room > 0 {
			f.shift(n, by, min(room, f.demand[function]-f.served(function)))
			return true
		}
		for i := range f.given {
			if f.given[i][n] > 0 {
				reach(i, n)
			}
		}
	}
	return false
}

// shift moves as much as the way to node n, of steps by, allows, at most most.
func (f *flow) shift(n int, by []step, most int) {
	for at := n; by[at].from != Here; at = by[at].from {
		most = min(most, f.given[by[at].function][by[at].from])
	}
	for at := n; ; at = by[at].from {
		f.given[by[at].function][at] += most
		if by[at].from == Here {
			return
		}
		f.given[by[at].function][by[at].from] -= most
	}
}
