package generators

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOapiCodegen generates a Go client. An overlay puts it beside the program
// in testdata/goclient, so that nothing generated lies in the repo.
func TestOapiCodegen(t *testing.T) {
	dir := t.TempDir()
	generated := filepath.Join(dir, "client.gen.go")
	run(t, ".", "go", "tool", "oapi-codegen", "-generate", "types,client", "-package", "main",
		"-o", generated, filepath.Join("..", "openapi.json"))

	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "testdata", "goclient", "client.gen.go"): generated,
	}})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "goclient")
	run(t, ".", "go", "build", "-overlay", overlayFile, "-o", program, "./testdata/goclient")

	out := run(t, dir, program, startHost(t))
	if !strings.Contains(out, outcome) {
		t.Errorf("the program says %q, want %q", out, outcome)
	}
}
