package arch

import "testing"

// The sources keep the shape the table describes.
func TestTheTreeKeepsItsShape(t *testing.T) {
	tree, err := Load(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Packages) < 5 {
		t.Fatalf("found %d packages: this is not the whole tree", len(tree.Packages))
	}
	for _, f := range Check(tree, Layout(), Allowed()) {
		t.Error(f)
	}
}
