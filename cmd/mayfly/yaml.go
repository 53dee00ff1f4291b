package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
)

// toYAML turns JSON, as marshal writes it, into YAML in block style with the same members in the same order. Strings that
// could be read as anything else, or hold anything unusual, stay quoted as in JSON, which YAML reads (YAML 1.2 section 1.3).
func toYAML(w io.Writer, text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out bytes.Buffer
	if err := yamlValue(&out, d, ""); err != nil {
		return err
	}
	_, err := w.Write(bytes.TrimLeft(out.Bytes(), " \n"))
	return err
}

// yamlValue writes the next value behind a key or a dash, with its line break.
func yamlValue(out *bytes.Buffer, d *json.Decoder, margin string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	if !nested {
		return yamlScalar(out, token)
	}
	if !d.More() {
		out.WriteString(map[json.Delim]string{'[': " []\n", '{': " {}\n"}[open])
		_, err = d.Token()
		return err
	}
	if !bytes.HasSuffix(out.Bytes(), []byte("-")) {
		out.WriteByte('\n')
	}
	for d.More() {
		// The first member of an object in a list stands behind the dash.
		if bytes.HasSuffix(out.Bytes(), []byte("-")) {
			out.WriteByte(' ')
		} else {
			out.WriteString(margin)
		}
		if open == '[' {
			out.WriteByte('-')
		} else {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // keys of JSON are strings
			out.WriteString(yamlString(name) + ":")
		}
		if err := yamlValue(out, d, margin+"  "); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func yamlScalar(out *bytes.Buffer, token json.Token) error {
	if s, ok := token.(string); ok {
		out.WriteString(" " + yamlString(s) + "\n")
		return nil
	}
	text, err := json.Marshal(token)
	out.WriteString(" " + string(text) + "\n")
	return err
}

// yamlString returns s as it is only if nobody can take it for anything but that string.
func yamlString(s string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	words := []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
	plain := s != "" && strings.ContainsRune(letters+"/", rune(s[0])) &&
		strings.Trim(s, letters+"0123456789_./-") == "" && !slices.Contains(words, strings.ToLower(s))
	if plain {
		return s
	}
	quoted, err := marshal(s, "")
	if err != nil {
		return "" // a string is always JSON
	}
	return strings.TrimSuffix(string(quoted), "\n")
}
