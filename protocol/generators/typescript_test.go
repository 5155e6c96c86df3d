package generators

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenapiTypescript generates types, compiles the program in
// testdata/tsclient with them under --strict, and runs it on Node.
func TestOpenapiTypescript(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	run(t, root, filepath.Join(root, ".ci", "packages"), "js")
	modules := filepath.Join(root, ".cache", "js", "node_modules")
	bin := filepath.Join(modules, ".bin")

	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join("testdata", "tsclient", "client.ts"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"client.ts": program, "package.json": []byte(`{"type":"module"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, filepath.Join(bin, "openapi-typescript"), filepath.Join(root, "protocol", "openapi.json"), "-o", "schema.ts")
	run(t, dir, filepath.Join(bin, "tsc"), "--strict", "--target", "es2022", "--module", "nodenext",
		"--lib", "es2022,dom,dom.iterable", "client.ts")

	out := run(t, dir, "node", "client.js", startHost(t))
	if !strings.Contains(out, outcome) {
		t.Errorf("the program says %q, want %q", out, outcome)
	}
}
