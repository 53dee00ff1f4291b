package admission

import (
	"mayfly/wasm/abi"
)

// parser walks the sections of one module.
type parser struct {
	reader
	limits    Limits
	info      Info
	types     []signature
	imports   []importEntry
	imported  []signature // types of the functions among the imports
	functions []uint32    // types of the functions the module defines
	memories  int
	bodies    int
}

type signature struct{ params, results []abi.ValType }

// importEntry is one import: a function when kind is abi.ExternFunc.
type importEntry struct {
	module, name string
	kind         byte
	at           int
	signature
}

// Numbers of sections.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

// rank is the order of sections, which is not that of their numbers: constants by section number.
var rank = [...]int{
	secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secTag: 6, secGlobal: 7, secExport: 8, secStart: 9,
	secElement: 10, secDataCount: 11, secCode: 12, secData: 13,
}

// sections reads all sections.
func (p *parser) sections() {
	last := 0
	for p.pos < len(p.b) && p.err == nil {
		at := p.pos
		id := p.byte()
		size := int(p.u32())
		if p.err == nil && size > len(p.b)-p.pos {
			p.truncated()
		}
		if p.err != nil {
			return
		}
		if id != secCustom {
			if int(id) >= len(rank) || rank[id] <= last {
				p.fail(at, "malformed", buildAgain, "section %d is unknown, twice or out of order", id)
				return
			}
			last = rank[id]
		}
		// A section is read within its own bounds.
		whole, end := p.b, p.pos+size
		p.b = whole[:end]
		p.section(id)
		if p.err == nil && p.pos != end {
			p.fail(p.pos, "malformed", buildAgain, "section %d has %d bytes too many", id, end-p.pos)
		}
		p.b = whole
	}
	if p.err == nil && p.bodies != len(p.functions) {
		p.fail(len(p.b), "malformed", buildAgain, "%d functions and code for %d", len(p.functions), p.bodies)
	}
}

func (p *parser) section(id byte) {
	switch id {
	case secCustom:
		p.custom()
	case secType:
		p.typeSection()
	case secImport:
		p.importSection()
	case secFunction:
		p.functionSection()
	case secTable:
		p.tableSection()
	case secMemory:
		for range p.count("memories", maxEntries) {
			p.memory()
		}
	case secTag:
		p.fail(p.pos, "feature", exceptionHint, "a tag section of the exception handling proposal")
	case secExport:
		p.exportSection()
	case secCode:
		p.codeSection()
	default:
		p.info.HasStart = p.info.HasStart || id == secStart
		p.pos = len(p.b) // globals, elements and data are the compiler's to judge: their size is bounded by the module's
	}
}

func (p *parser) custom() {
	at := p.pos
	switch p.name() {
	case "name":
		p.info.HasNames = true
	case "linking":
		p.fail(at, "malformed", "link it with wasm-ld (clang without -c)", "an object file that is not linked")
	case "dylink", "dylink.0":
		p.fail(at, "feature", "link statically (without -shared and -pie)", "a dynamic library")
	}
	p.pos = len(p.b)
}

func (p *parser) typeSection() {
	for range p.count("types", maxEntries) {
		at := p.pos
		if form := p.byte(); form != 0x60 {
			p.fail(at, "feature", gcHint, "type form %#x of the garbage collection proposal", form)
			return
		}
		p.types = append(p.types, signature{p.reader.types(), p.reader.types()})
	}
}

// typeAt reads the index of a type.
func (p *parser) typeAt() signature {
	at := p.pos
	i := p.u32()
	if p.err == nil && uint64(i) >= uint64(len(p.types)) {
		p.fail(at, "malformed", buildAgain, "type %d of %d", i, len(p.types))
	}
	if p.err != nil {
		return signature{}
	}
	return p.types[i]
}

func (p *parser) importSection() {
	for range p.count("imports", maxEntries) {
		i := importEntry{at: p.pos, module: p.name(), name: p.name(), kind: p.byte()}
		switch {
		case p.err != nil:
			return
		case i.kind == byte(abi.ExternFunc):
			i.signature = p.typeAt()
			p.imported = append(p.imported, i.signature)
		case i.kind == byte(abi.ExternTable):
			p.table()
		case i.kind == byte(abi.ExternMemory):
			p.memory()
		case i.kind == byte(abi.ExternGlobal):
			p.valueType()
			p.byte()
		default:
			p.fail(i.at, "feature", exceptionHint, "an import of kind %d", i.kind)
		}
		p.imports = append(p.imports, i)
	}
}

func (p *parser) functionSection() {
	n := p.count("functions", p.limits.Functions)
	p.functions = make([]uint32, 0, n)
	for range n {
		at := p.pos
		i := p.u32()
		if uint64(i) >= uint64(len(p.types)) {
			p.fail(at, "malformed", buildAgain, "type %d of %d", i, len(p.types))
			return
		}
		p.functions = append(p.functions, i)
	}
	p.info.Functions = n
}

func (p *parser) tableSection() {
	for range p.count("tables", maxEntries) {
		p.table()
	}
}

func (p *parser) table() {
	at := p.pos
	if at < len(p.b) && p.b[at] == 0x40 {
		p.fail(at, "feature", gcHint, "a table with an initial value")
		return
	}
	p.valueType()
	low, _, _ := p.reader.limits("table")
	total := uint64(p.info.TableMin) + low
	if p.err == nil && total > uint64(p.limits.Table) {
		p.fail(at, "too-large", "call fewer functions through pointers or interfaces", "tables of %d elements; at most %d are admitted", total, p.limits.Table)
		return
	}
	p.info.TableMin = int(total)
}

func (p *parser) memory() {
	at := p.pos
	low, high, bounded := p.reader.limits("memory")
	p.memories++
	switch {
	case p.err != nil:
	case p.memories > 1:
		p.fail(at, "feature", "link into one memory", "more than one memory")
	case low > 1<<16 || bounded && (high > 1<<16 || high < low):
		p.fail(at, "malformed", buildAgain, "a memory of %d to %d pages", low, high)
	default:
		p.info.MemoryMin = low
		if bounded {
			p.info.MemoryMax = high
		}
	}
}

func (p *parser) exportSection() {
	n := p.count("exports", maxEntries)
	p.info.Exports = make([]abi.Export, 0, n)
	for range n {
		at := p.pos
		e := abi.Export{Name: p.name(), Kind: abi.ExternKind(p.byte())}
		index := p.u32()
		if p.err == nil && e.Kind == abi.ExternFunc {
			s, ok := p.functionAt(index)
			if !ok {
				p.fail(at, "malformed", buildAgain, "export %s of function %d, which does not exist", quote(e.Name), index)
			}
			e.Params, e.Results = s.params, s.results
		}
		p.info.Exports = append(p.info.Exports, e)
	}
}

// functionAt returns the type of a function by its index, which counts imported ones first.
func (p *parser) functionAt(index uint32) (signature, bool) {
	i := uint64(index)
	if i < uint64(len(p.imported)) {
		return p.imported[i], true
	}
	if i -= uint64(len(p.imported)); i < uint64(len(p.functions)) {
		return p.types[p.functions[i]], true
	}
	return signature{}, false
}
