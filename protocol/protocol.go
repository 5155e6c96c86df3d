// Package protocol holds the TaskBridge protocol as data: the OpenAPI 3.1
// document, JSON Schemas (draft 2020-12) and golden messages. What they say is
// the source of truth for every transport and store of this module; package
// conformance, a module of its own, holds a running host against them.
package protocol

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:generate go run ./internal/bundle

//go:embed openapi.json
var openAPI []byte

//go:embed schemas/*.json
var schemas embed.FS

//go:embed golden
var golden embed.FS

// OpenAPI returns the OpenAPI 3.1 document as JSON, with every schema that it
// refers to inside it. The caller may change what it gets.
func OpenAPI() []byte { return slices.Clone(openAPI) }

// Schema returns the JSON Schema of that name ("event", "poll-page", ...). Its
// references are relative: "gap.json" is Schema("gap"). An unknown name is an
// error that unwraps to fs.ErrNotExist.
func Schema(name string) ([]byte, error) {
	b, err := schemas.ReadFile("schemas/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("protocol: schema %q: %w", name, err)
	}
	return b, nil
}

// Schemas returns the names of all schemas, sorted.
func Schemas() []string {
	entries, _ := schemas.ReadDir("schemas") // embedded: it is there
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".json")
	}
	return names
}

// Golden returns the golden messages, as they go over the wire.
// "event.started.json" is an instance of the schema "event"; files that end in
// ".sse" are pieces of an SSE stream, byte for byte. A JSON file has a newline
// at its end that the wire does not.
func Golden() fs.FS {
	sub, err := fs.Sub(golden, "golden")
	if err != nil { // only for an invalid path
		return golden
	}
	return sub
}
