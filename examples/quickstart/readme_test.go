package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
)

// The README's tables name every setting there is, and none that is not.
func TestReadmeNamesEverySetting(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n## Routes\n")
	text, _, ended := strings.Cut(text, "\n## Middleware\n")
	if !found || !ended {
		t.Fatal("the README has no settings between its routes and its middleware")
	}
	named := map[string]bool{}
	for _, code := range regexp.MustCompile("`([A-Za-z.]+)`").FindAllStringSubmatch(text, -1) {
		named[code[1]] = true
	}
	groups := map[string]reflect.Type{}
	for _, config := range []any{fiberbridge.Config{}, engine.Config{}, memstore.Config{}, rueidisstore.Config{}, localexec.Config{}} {
		all := reflect.TypeOf(config)
		for i := range all.NumField() {
			f := all.Field(i)
			if f.Type.Kind() != reflect.Struct || !strings.Contains(f.Type.PkgPath(), "taskbridge-fiber") {
				if !named[f.Name] {
					t.Errorf("%s.%s is not named", all, f.Name)
				}
				continue
			}
			groups[f.Name+" of "+all.String()] = f.Type
			for j := range f.Type.NumField() {
				// A row of several names the group once: `Streams.Max`, `MaxPerTask`.
				if name := f.Type.Field(j).Name; !named[f.Name+"."+name] && !named[name] {
					t.Errorf("%s.%s.%s is not named", all, f.Name, name)
				}
			}
		}
	}
	for name := range named {
		group, field, nested := strings.Cut(name, ".")
		if !nested || field == "" {
			continue
		}
		known, there := false, false
		for key, fields := range groups {
			if strings.HasPrefix(key, group+" of ") {
				known = true
				_, ok := fields.FieldByName(field)
				there = there || ok
			}
		}
		if known && !there {
			t.Errorf("there is no setting %s", name)
		}
	}
}
