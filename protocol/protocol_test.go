package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenAPIStandsAlone(t *testing.T) {
	var doc struct {
		OpenAPI    string                     `json:"openapi"`
		Paths      map[string]json.RawMessage `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(protocol.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) == 0 {
		t.Errorf("openapi %q with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	if got, want := len(doc.Components.Schemas), len(protocol.Schemas()); got != want {
		t.Errorf("%d schemas in the document, %d files", got, want)
	}
	for _, ref := range refs(t, protocol.OpenAPI()) {
		if !strings.HasPrefix(ref, "#/components/") {
			t.Errorf("the document refers to %s", ref)
		}
	}
}

func TestOpenAPIIsTheCallersOwn(t *testing.T) {
	clear(protocol.OpenAPI())
	if !json.Valid(protocol.OpenAPI()) {
		t.Error("a caller changed the document for everybody")
	}
}

func TestSchemasReferToEachOther(t *testing.T) {
	if len(protocol.Schemas()) == 0 {
		t.Fatal("no schemas")
	}
	for _, name := range protocol.Schemas() {
		schema, err := protocol.Schema(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range refs(t, schema) {
			other, isFile := strings.CutSuffix(ref, ".json")
			if _, err := protocol.Schema(other); !isFile || err != nil {
				t.Errorf("%s refers to %s", name, ref)
			}
		}
	}
	if _, err := protocol.Schema("no-such"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown schema gives %v", err)
	}
}

// The messages themselves are held against the schemas by package conformance.
func TestGoldenMessagesAreWireForm(t *testing.T) {
	files, err := fs.Glob(protocol.Golden(), "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(protocol.Golden(), file)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(file, ".")
		switch path.Ext(file) {
		case ".sse":
			if !bytes.HasSuffix(text, []byte("\n\n")) {
				t.Errorf("%s does not end an SSE message", file)
			}
		case ".json":
			if _, err := protocol.Schema(name); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, text); err != nil {
				t.Errorf("%s: %v", file, err)
			} else if compact.String()+"\n" != string(text) {
				t.Errorf("%s is not compact JSON and a newline", file)
			}
		default:
			t.Errorf("%s: what is it?", file)
		}
	}
}

func refs(t *testing.T, doc []byte) []string {
	t.Helper()
	var found []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				found = append(found, ref)
			}
			for _, sub := range v {
				walk(sub)
			}
		case []any:
			for _, sub := range v {
				walk(sub)
			}
		}
	}
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	walk(v)
	return found
}
