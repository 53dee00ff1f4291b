package abi

import (
	"strings"
	"testing"

	"mayfly/function"
)

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	count := map[string]int{}
	for i, f := range Imports() {
		if f.Module == "" || f.Name == "" || seen[f.Module+"."+f.Name] || len(f.Params) > MaxParams || len(f.Results) > 1 {
			t.Errorf("import %d: %+v", i, f)
		}
		seen[f.Module+"."+f.Name] = true
		count[f.Module]++
	}
	if count[ModuleMayfly] != 25 || count[ModuleWASI] != 46 || count[ModuleEnv] != 1 {
		t.Errorf("imports by module: %v", count)
	}
}

// signature is what abi.md writes as name(params)->result, i for i32 and I for i64.
func signature(f Import) string {
	short := func(types []ValType) string {
		var b strings.Builder
		for _, v := range types {
			b.WriteByte(map[ValType]byte{I32: 'i', I64: 'I'}[v])
		}
		return b.String()
	}
	return f.Name + "(" + short(f.Params) + ")" + short(f.Results)
}

func TestSignatures(t *testing.T) {
	const want = `event_data(ii)i event_attr(iiii)i event_json(ii)i publish(iiiii)i respond(ii)i respond_attr(iiii)i fail(ii)
		retry_after(I) kv_get(iiii)i kv_put(iiiiI)i kv_del(ii)i kv_incr(iiIi)i kv_cas(iiIii)I kv_ver(ii)I kv_list(iiiiii)i
		config_get(iiii)i secret_get(iiii)i log(iii) http_send(iiii)i http_read(iii)i http_meta(iii)i http_close(i)
		now_ms()I left_ms()I random(ii)`
	var got []string
	for _, f := range Imports() {
		if f.Module == ModuleMayfly {
			got = append(got, signature(f))
		}
	}
	if strings.Join(got, " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("mayfly_v1 is\n%s", strings.Join(got, " "))
	}
}

func TestDetect(t *testing.T) {
	memory := Export{Name: "memory", Kind: ExternMemory}
	fn := func(name string, results ...ValType) Export { return Export{Name: name, Results: results} }
	for _, c := range []struct {
		exports []Export
		want    function.ABI
		err     string
	}{
		{[]Export{memory, fn("mayfly_handle", I32)}, function.ABIMayfly, ""},
		{[]Export{fn("_start"), memory}, function.ABICommand, ""},
		{[]Export{memory, fn("_start"), fn("mayfly_handle", I32)}, function.ABIMayfly, ""},
		{[]Export{memory, fn("mayfly_handle", I32), fn("mayfly_init", I32), fn("_initialize"), fn("other", I64)}, function.ABIMayfly, ""},
		{[]Export{memory}, "", "neither"},
		{nil, "", "neither"},
		{[]Export{fn("_start")}, "", "memory"},
		{[]Export{fn("memory"), fn("_start")}, "", "not a memory"},
		{[]Export{memory, fn("mayfly_handle")}, "", "returns i32"},
		{[]Export{memory, fn("_start", I32)}, "", "returns nothing"},
		{[]Export{memory, fn("_start"), fn("_initialize", I32)}, "", "returns nothing"},
		{[]Export{memory, {Name: "mayfly_handle", Kind: ExternGlobal, Results: []ValType{I32}}}, "", "must be a function"},
		{[]Export{memory, {Name: "mayfly_handle", Params: []ValType{I32}, Results: []ValType{I32}}}, "", "without parameters"},
	} {
		got, err := Detect(c.exports)
		if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %q, %v", c.exports, got, err)
		}
	}
}
