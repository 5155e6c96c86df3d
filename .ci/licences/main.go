// Command licences lists the modules that this repository builds and tests with,
// with the licence of each, and fails if one has no licence that is known and
// allowed, or if docs/licences.md says something else.
//
//	licences [-write] [module directory ...]
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licenseclassifier/v2/assets"
)

// own is the prefix of this repository's modules.
const own = "github.com/taskbridge/taskbridge-fiber"

// document holds the list, relative to the repository.
const document = "docs/licences.md"

// allowed are the licences that a program under Apache-2.0 can carry without
// further duties than to keep their texts.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unlicense"}

// library are the packages that hosts import.
var library = []string{"./engine/...", "./fiberbridge/...", "./rueidisstore"}

// allowedOutside are licences whose duties come with changes to their files, for
// what no host builds.
var allowedOutside = []string{"MPL-2.0"}

// dependency is a module that is not ours.
type dependency struct {
	dir      string
	licences []string
	library  bool // hosts build it; else only tests, examples and tools do
}

func main() {
	write := flag.Bool("write", false, "write "+document+" instead of comparing with it")
	flag.Parse()
	dirs := flag.Args()
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	if err := run(dirs, *write); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(dirs []string, write bool) error {
	all := map[string]*dependency{}
	for _, dir := range dirs {
		if err := collect(all, dir, dir == "."); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err := classify(all); err != nil {
		return err
	}
	text := table(all)
	if write {
		return os.WriteFile(document, text, 0o644)
	}
	written, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	if !bytes.Equal(written, text) {
		return fmt.Errorf("%s is out of date; make licences writes it:\n%s", document, text)
	}
	fmt.Printf("licences: %d modules, all allowed\n", len(all))
	return nil
}

// collect adds the modules whose packages the module in dir builds or tests with.
func collect(all map[string]*dependency, dir string, isLibrary bool) error {
	tested, err := modules(dir, true, "./...")
	if err != nil {
		return err
	}
	linked := map[string]string{}
	if isLibrary {
		if linked, err = modules(dir, false, library...); err != nil {
			return err
		}
	}
	for path, at := range tested {
		d := all[path]
		if d == nil {
			d = &dependency{dir: at}
			all[path] = d
		}
		_, links := linked[path]
		d.library = d.library || links
	}
	return nil
}

// modules returns the directories of the modules, by path, that packages in dir
// need.
func modules(dir string, tests bool, packages ...string) (map[string]string, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", fmt.Sprintf("-test=%t", tests), "-json=Module"}, packages...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	found := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *struct{ Path, Dir string } }
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if p.Module != nil && p.Module.Path != own && !strings.HasPrefix(p.Module.Path, own+"/") {
			found[p.Module.Path] = p.Module.Dir
		}
	}
}

// classify fills in the licences, and names every module that has none or one
// that is not allowed.
func classify(all map[string]*dependency) error {
	known, err := assets.DefaultClassifier()
	if err != nil {
		return err
	}
	var wrong []string
	for _, path := range slices.Sorted(maps.Keys(all)) {
		d := all[path]
		files, err := os.ReadDir(d.dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			name := strings.ToLower(f.Name())
			if f.IsDir() || !strings.HasPrefix(name, "licen") && !strings.HasPrefix(name, "copying") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(d.dir, f.Name()))
			if err != nil {
				return err
			}
			for _, m := range known.Match(text).Matches {
				if m.MatchType == "License" && !slices.Contains(d.licences, m.Name) {
					d.licences = append(d.licences, m.Name)
				}
			}
		}
		slices.Sort(d.licences)
		forbidden := func(name string) bool {
			return !slices.Contains(allowed, name) && (d.library || !slices.Contains(allowedOutside, name))
		}
		if len(d.licences) == 0 || slices.ContainsFunc(d.licences, forbidden) {
			wrong = append(wrong, fmt.Sprintf("%s: %q", path, d.licences))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("no licence that is known and allowed (%s):\n%s",
			strings.Join(allowed, ", "), strings.Join(wrong, "\n"))
	}
	return nil
}

func table(all map[string]*dependency) []byte {
	var b bytes.Buffer
	b.WriteString("# Licences of the dependencies\n\n`make licences` writes this list; `make lint` fails if it is out of date, " +
		"or if a module has no licence of these: " + strings.Join(allowed, ", ") + "; or, if no host builds it, " +
		strings.Join(allowedOutside, ", ") + ".\n\n" +
		"| module | licence | needed by |\n|---|---|---|\n")
	for _, path := range slices.Sorted(maps.Keys(all)) {
		by := "tests, examples, tools"
		if all[path].library {
			by = "library"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", path, strings.Join(all[path].licences, ", "), by)
	}
	return b.Bytes()
}
