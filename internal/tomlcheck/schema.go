package tomlcheck

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// Schema returns the JSON Schema (draft 2020-12) of the file that the struct cfg points to describes, with a final newline.
func Schema(title string, cfg any) []byte {
	root := object(reflect.TypeOf(cfg).Elem())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = title
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("tomlcheck: %v", err)) // maps of strings always marshal
	}
	return append(text, '\n')
}

func object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, f := range Fields(t) {
		properties[f.Name] = f.schema()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		out["required"] = required
	}
	return out
}

func (f Field) schema() map[string]any {
	var out map[string]any
	switch k := f.Type.Kind(); {
	case Leaf(f.Type):
		out = f.leafSchema()
	case k == reflect.Pointer:
		elem := f.Elem()
		elem.Doc = ""
		out = elem.schema()
	case k == reflect.Slice:
		elem := f.Elem()
		elem.Doc = ""
		out = map[string]any{"type": "array", "items": elem.schema()}
	case k == reflect.Map:
		elem := f.Elem()
		elem.Doc = ""
		out = map[string]any{"type": "object", "additionalProperties": elem.schema()}
	default:
		out = object(f.Type)
	}
	if f.Doc != "" {
		out["description"] = f.Doc
	}
	return out
}

func (f Field) leafSchema() map[string]any {
	out := map[string]any{}
	switch f.sort() {
	case aString, aDuration:
		out["type"] = "string"
	case aBool:
		out["type"] = "boolean"
	case aNumber:
		out["type"] = "number"
	case aWhole:
		out["type"] = "integer"
		f.bounds(out)
	case aScalar:
		out["type"] = []string{"string", "number", "boolean"}
	default:
		out["type"] = []string{"string", "integer"}
	}
	if f.Words != nil {
		out["enum"] = f.Words
	}
	if f.Default != "" {
		out["default"] = f.defaultJSON(out["type"])
	}
	return out
}

func (f Field) bounds(out map[string]any) {
	for key, text := range map[string]string{"minimum": f.Min, "maximum": f.Max} {
		if n, err := f.number(text); text != "" && err == nil {
			out[key] = n
		}
	}
}

func (f Field) defaultJSON(kind any) any {
	if kind == "integer" || kind == "number" || kind == "boolean" {
		return json.RawMessage(f.Default)
	}
	return f.Default
}
