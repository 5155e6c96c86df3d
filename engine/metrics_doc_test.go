package engine_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestEveryMetricIsDocumented compares the constants of type Metric with the
// table in docs/deploying.md, both ways.
func TestEveryMetricIsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "deploying.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]] = true
	}
	found := metricNames(t)
	if len(found) == 0 {
		t.Fatal("there are no metrics")
	}
	for name := range found {
		if !documented[name] {
			t.Errorf("the metric %s is not in docs/deploying.md", name)
		}
	}
	for name := range documented {
		if !found[name] {
			t.Errorf("docs/deploying.md names %s, which is no metric", name)
		}
	}
}

// metricNames are the values of all constants of type Metric of the package.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Metric" {
				for _, v := range spec.Values {
					if text, ok := v.(*ast.BasicLit); ok {
						value, err := strconv.Unquote(text.Value)
						if err != nil {
							t.Fatal(err)
						}
						found[value] = true
					}
				}
			}
			return true
		})
	}
	return found
}
