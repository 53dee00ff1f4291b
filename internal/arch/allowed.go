package arch

// Allowed is what cannot be avoided, each with its reason.
func Allowed() []Allowance {
	return []Allowance{
		{"wasm/internal/wasmtime/instance.go", "func mayflyHostCall", ruleParams, "the engine calls it: its parameters are those of the C callback"},
	}
}
