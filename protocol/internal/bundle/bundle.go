package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

var (
	refInDocument = regexp.MustCompile(`"\$ref": "schemas/([a-z-]+)\.json"`)
	refInSchema   = regexp.MustCompile(`"\$ref": "([a-z-]+)\.json"`)
	dialect       = regexp.MustCompile(`(?m)^\s*"\$schema": "[^"]*",\n`)
)

// placeholder stands where the schemas go.
const placeholder = `"schemas": {}`

// bundle works on the text, so that the order in which things were written is
// kept. dir is the protocol folder.
func bundle(dir fs.FS) ([]byte, error) {
	src, err := fs.ReadFile(dir, "openapi.source.json")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(dir, "schemas/*.json")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, file := range files {
		schema, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		schema = dialect.ReplaceAll(schema, nil)
		schema = pointAtComponents(refInSchema, schema)
		all = append(all, fmt.Sprintf("%q: %s", componentName(file), schema))
	}
	if bytes.Count(src, []byte(placeholder)) != 1 {
		return nil, fmt.Errorf("openapi.source.json: want %s exactly once", placeholder)
	}
	doc := pointAtComponents(refInDocument, src)
	doc = bytes.Replace(doc, []byte(placeholder), []byte(`"schemas": {`+strings.Join(all, ",")+`}`), 1)

	var out bytes.Buffer
	if err := json.Indent(&out, doc, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func pointAtComponents(ref *regexp.Regexp, text []byte) []byte {
	return ref.ReplaceAllFunc(text, func(m []byte) []byte {
		name := ref.FindSubmatch(m)[1]
		return fmt.Appendf(nil, `"$ref": "#/components/schemas/%s"`, componentName(string(name)))
	})
}

// componentName turns "schemas/poll-page.json" into "PollPage".
func componentName(file string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(strings.TrimSuffix(path.Base(file), ".json"), "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
