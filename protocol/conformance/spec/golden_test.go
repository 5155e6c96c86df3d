package spec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/protocol"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t *testing.T) *spec.Protocol {
	t.Helper()
	p, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// goldens calls each with every golden message and the schema it belongs to.
func goldens(t *testing.T, each func(t *testing.T, schema string, text []byte)) {
	t.Helper()
	files, err := fs.Glob(protocol.Golden(), "*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := fs.ReadFile(protocol.Golden(), file)
			if err != nil {
				t.Fatal(err)
			}
			schema, _, _ := strings.Cut(file, ".")
			each(t, schema, text)
		})
	}
}

func TestGoldenMessagesFitTheirSchemas(t *testing.T) {
	p := load(t)
	goldens(t, func(t *testing.T, schema string, text []byte) {
		if err := p.Message(schema, text); err != nil {
			t.Error(err)
		}
	})
}

// free names what a schema leaves to the host: nothing below it is mutated,
// and keys may be added there.
var free = []string{"input", "metadata", "result", "uiHints", "interaction", "details"}

// optional names the keys that may be left out of a golden message that has
// them.
var optional = []string{
	"message", "stage", "level", "expiresAt", "uiHints", "interaction", "tookMs",
	"input", "metadata", "gap", "closing", "lastEventId", "waiting", "terminal", "resumesAfter",
}

// nullable names the keys that may be null.
var nullable = []string{
	"afterEventId", "firstEventId", "nextAfterEventId", "replayStartedAfterEventId", "lastEventId",
}

// TestMutatedMessagesFail damages every golden message in every place: a key
// renamed, a key too many, a value of another type. A schema that forgets a
// constraint lets one of them through.
func TestMutatedMessagesFail(t *testing.T) {
	p := load(t)
	goldens(t, func(t *testing.T, schema string, text []byte) {
		n := 0
		for what, mutant := range mutants(t, schema, text) {
			n++
			if p.Message(schema, mutant) == nil {
				t.Errorf("%s: taken: %s", what, mutant)
			}
		}
		if n == 0 {
			t.Error("nothing was mutated")
		}
	})
}

func mutants(t *testing.T, schema string, text []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	var root any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	keep := func(what string) {
		b, err := json.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		out[what] = b
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		obj, ok := v.(map[string]any)
		if !ok {
			if list, ok := v.([]any); ok {
				for i, item := range list {
					walk(fmt.Sprintf("%s[%d]", path, i), item)
				}
			}
			return
		}
		if !openObject(schema, path, obj) {
			obj["extra"] = 1
			keep(path + ": a key too many")
			delete(obj, "extra")
		}
		for _, key := range slices.Sorted(maps.Keys(obj)) {
			was := obj[key]
			at := path + "." + key
			if !slices.Contains(optionalOf(schema), key) || required(schema, key) {
				delete(obj, key)
				keep(at + " left out")
			}
			if key != "result" && key != "tookMs" && key != "store" && key != "errors" {
				obj[key] = otherType(was)
				keep(at + " of another type")
				if !slices.Contains(nullable, key) && (schema != "cancel-request" || key != "reason") {
					obj[key] = nil
					keep(at + " null")
				}
			}
			obj[key] = was
			if !slices.Contains(free, key) && (schema != "action-request" || key != "payload") {
				walk(at, was)
			}
		}
	}
	walk("", root)
	if bytes.Contains(text, []byte(`"TASK_`)) && schema != "error" && schema != "ws-server-frame" {
		out["a type that does not exist"] = bytes.Replace(text, []byte(`"TASK_`), []byte(`"TASK_X`), 1)
	}
	return out
}

// optionalOf is optional with what only one schema leaves to the client.
func optionalOf(schema string) []string {
	switch schema {
	case "cancel-request":
		return append([]string{"reason"}, optional...)
	case "action-request":
		return append([]string{"payload"}, optional...)
	}
	return optional
}

// openObject tells where the protocol allows keys that it does not name.
func openObject(schema, path string, obj map[string]any) bool {
	_, completed := obj["result"]
	return completed || schema == "ready" && path == ".details"
}

// required tells where a key of optional must be there after all.
func required(schema, key string) bool {
	return schema == "error" && key == "message" || schema == "snapshot" && key == "lastEventId"
}

func otherType(v any) any {
	if _, ok := v.(string); ok {
		return map[string]any{"was": "a string"}
	}
	return "a string of blanks and letters"
}
