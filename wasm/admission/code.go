package admission

// codeSection reads the bodies of all functions.
func (p *parser) codeSection() {
	p.bodies = p.count("function bodies", p.limits.Functions)
	if p.bodies != len(p.functions) {
		p.fail(p.pos, "malformed", buildAgain, "%d functions and code for %d", len(p.functions), p.bodies)
	}
	for i := 0; i < p.bodies && p.err == nil; i++ {
		at := p.pos
		size := int(p.u32())
		switch {
		case p.err != nil:
			return
		case size > p.limits.Body:
			p.fail(at, "too-large", "split the function, or build with optimisation for size (-Os)",
				"the code of function %d has %d bytes; at most %d are admitted", len(p.imported)+i, size, p.limits.Body)
			return
		case size > len(p.b)-p.pos:
			p.truncated()
			return
		}
		p.info.LargestBody = max(p.info.LargestBody, size)
		whole := p.b
		p.b = whole[:p.pos+size]
		p.body(len(p.imported)+i, len(p.types[p.functions[i]].params))
		p.b = whole
	}
}

// body reads the code of one function: its local variables and every instruction, of which it counts those that open a
// block, because compilers take time in proportion to locals times blocks.
func (p *parser) body(index, params int) {
	at := p.pos
	locals := uint64(params)
	for range p.count("groups of locals", p.limits.Body) {
		locals += uint64(p.u32())
		p.valueType()
		if p.err != nil {
			return
		}
	}
	if locals > uint64(p.limits.Locals) {
		p.fail(at, "too-large", "build with optimisation (-O2, --release)",
			"function %d has %d parameters and locals; at most %d are admitted", index, locals, p.limits.Locals)
		return
	}
	p.info.MostLocals = max(p.info.MostLocals, int(locals))
	blocks := 0
	for p.pos < len(p.b) && p.err == nil {
		if p.instruction() {
			blocks++
		}
	}
	if p.err == nil && blocks*int(locals) > p.limits.LocalsBlocks {
		p.fail(at, "too-large", "split the function, or build with optimisation (-O2, --release)",
			"function %d has %d blocks and %d locals; at most %d of both multiplied are admitted", index, blocks, locals, p.limits.LocalsBlocks)
	}
}

// instruction skips one instruction and says whether it opens a block.
func (p *parser) instruction() (block bool) {
	at := p.pos
	switch op := p.byte(); {
	case op == 0x02 || op == 0x03 || op == 0x04: // block, loop, if: a type
		p.number()
		return true
	case op <= 0x01 || op == 0x05 || op == 0x0b || op == 0x0f || op == 0x1a || op == 0x1b || op >= 0x45 && op <= 0xc4 || op == 0xd1:
	case op == 0x0c || op == 0x0d || op == 0x10 || op >= 0x20 && op <= 0x26 || op >= 0x3f && op <= 0x42 || op == 0xd0 || op == 0xd2:
		p.number() // a label, an index or a constant
	case op == 0x11 || op >= 0x28 && op <= 0x3e:
		p.numbers(2) // call_indirect; loads and stores
	case op == 0x0e: // br_table
		p.numbers(p.count("branches", p.limits.Body) + 1)
	case op == 0x1c: // select with types
		p.skip(p.count("types of a select", p.limits.Body))
	case op == 0x43:
		p.skip(4)
	case op == 0x44:
		p.skip(8)
	case op == 0xfc:
		p.bulk(at)
	case op == 0xfd:
		p.vector(at)
	default:
		p.refuseInstruction(at, op)
	}
	return false
}

func (p *parser) numbers(n int) {
	for i := 0; i < n && p.err == nil; i++ {
		p.number()
	}
}

// refuseInstruction says which proposal an instruction is of.
func (p *parser) refuseInstruction(at int, op byte) {
	switch op {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f:
		p.fail(at, "feature", exceptionHint, "instruction %#x of the exception handling proposal", op)
	case 0x12, 0x13, 0x15:
		p.fail(at, "feature", tailHint, "instruction %#x of the tail call proposal", op)
	case 0x14, 0xd3, 0xd4, 0xd5, 0xd6, 0xfb:
		p.fail(at, "feature", gcHint, "instruction %#x of the garbage collection and typed references proposals", op)
	case 0xfe:
		p.fail(at, "feature", threadHint, "an atomic instruction of the threads proposal")
	default:
		p.fail(at, "malformed", buildAgain, "unknown instruction %#x", op)
	}
}

// bulk skips an instruction of the group 0xfc: saturating conversions, bulk memory and tables.
func (p *parser) bulk(at int) {
	switch op := p.u32(); {
	case op <= 7:
	case op == 9 || op == 11 || op == 13 || op >= 15 && op <= 17:
		p.number()
	case op == 8 || op == 10 || op == 12 || op == 14:
		p.numbers(2)
	default:
		p.fail(at, "malformed", buildAgain, "unknown instruction 0xfc %#x", op)
	}
}

// vector skips an instruction of the group 0xfd.
func (p *parser) vector(at int) {
	switch op := p.u32(); {
	case op <= 11 || op == 92 || op == 93: // loads and stores
		p.numbers(2)
	case op == 12 || op == 13: // a constant, or lanes to shuffle
		p.skip(16)
	case op >= 21 && op <= 34: // a lane
		p.skip(1)
	case op >= 84 && op <= 91: // load or store of a lane
		p.numbers(2)
		p.skip(1)
	case op > 255:
		p.fail(at, "feature", relaxedHint, "instruction 0xfd %#x of the relaxed SIMD proposal", op)
	}
}
