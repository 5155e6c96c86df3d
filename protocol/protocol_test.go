package protocol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
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

// Every operation names the credentials that it takes; liveness and readiness
// take none.
func TestOpenAPINamesCredentials(t *testing.T) {
	type security []map[string][]string
	var doc struct {
		Security   security
		Paths      map[string]map[string]json.RawMessage
		Components struct{ SecuritySchemes map[string]json.RawMessage }
	}
	if err := json.Unmarshal(protocol.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Security) == 0 {
		t.Error("the document asks for no credentials")
	}
	for _, alternative := range doc.Security {
		for name := range alternative {
			if doc.Components.SecuritySchemes[name] == nil {
				t.Errorf("there is no security scheme %q", name)
			}
		}
	}
	for path, methods := range doc.Paths {
		for method, text := range methods {
			if method == "parameters" {
				continue
			}
			var operation struct{ Security *security }
			if err := json.Unmarshal(text, &operation); err != nil {
				t.Fatal(err)
			}
			open := path == "/health" || path == "/ready"
			if open != (operation.Security != nil && len(*operation.Security) == 0) {
				t.Errorf("%s %s: security %v", method, path, operation.Security)
			}
		}
	}
}

// Generators do not read if and then: they take the payload's type from the
// union, which therefore names every shape.
func TestEventPayloadUnionIsWhole(t *testing.T) {
	text, err := protocol.Schema("event")
	if err != nil {
		t.Fatal(err)
	}
	var event struct {
		Properties struct {
			Type    struct{ Enum []string }
			Payload struct {
				AnyOf []map[string]string
			}
		}
		AllOf []struct {
			Then struct {
				Properties struct{ Payload map[string]string }
			}
		}
	}
	if err := json.Unmarshal(text, &event); err != nil {
		t.Fatal(err)
	}
	var union, shapes []string
	for _, ref := range event.Properties.Payload.AnyOf {
		union = append(union, ref["$ref"])
	}
	for _, branch := range event.AllOf {
		shapes = append(shapes, branch.Then.Properties.Payload["$ref"])
	}
	if len(shapes) != len(event.Properties.Type.Enum) || !slices.Equal(union, shapes) {
		t.Errorf("types %q, shapes %q, union %q", event.Properties.Type.Enum, shapes, union)
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
			// Many readers dispatch an empty message at a blank line that follows no
			// data, so only a message has one.
			hasData := bytes.Contains(text, []byte("\ndata:")) || bytes.HasPrefix(text, []byte("data:"))
			if hasData != bytes.HasSuffix(text, []byte("\n\n")) || !bytes.HasSuffix(text, []byte("\n")) {
				t.Errorf("%s: a message ends with a blank line, anything else with its own line: %q", file, text)
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
