package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// loops lays the loops of docs/clients.md out as files, beside the programs
// that drive them, and returns one of each platform.
func loops(t *testing.T) []loop {
	t.Helper()
	tool(t, "node", "nodejs")
	tool(t, "npm", "npm")
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	installing.Lock()
	out, err := exec.Command(filepath.Join(root, ".ci", "packages"), "js", "py").CombinedOutput()
	installing.Unlock()
	if err != nil {
		t.Fatalf(".ci/packages: %v\n%s", err, out)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "loops"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, ".cache", "js", "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	snippets := snippets(t, filepath.Join(root, "docs", "clients.md"))
	for name, text := range snippets {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := goLoop(t, dir)
	python := filepath.Join(root, ".cache", "py", "bin", "python")
	found := []loop{
		{name: "Python", line: toHost, start: command(dir, python, "python.py")},
		{name: "Go", line: toHost, start: command(dir, program)},
	}
	for _, name := range []string{"fetch", "eventsource", "websocket"} {
		found = append(found,
			loop{name: "Node " + name, line: toHost, many: name == "websocket", start: command(dir, "node", "node.mjs", name)},
			loop{name: "Chromium " + name, line: toPages(dir), many: name == "websocket", start: inPage(name)})
	}
	found = append(found, loop{name: "Chromium fetch-event-source", line: toPages(dir), start: inPage("fetch-event-source")})
	if want := 6; len(snippets) != want {
		t.Fatalf("%d snippets in the page, %d are run", len(snippets), want)
	}
	return found
}

var snippet = regexp.MustCompile("(?ms)^```[a-z]+ ([a-z-]+\\.[a-z]+)\n(.*?)^```$")

// snippets returns the code blocks of a page that have a file's name.
func snippets(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range snippet.FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = m[2]
	}
	return found
}

// goLoop builds the Go loop, with the standard library alone.
func goLoop(t *testing.T, dir string) (program string) {
	t.Helper()
	for from, to := range map[string]string{"go.txt": "go/main.go", "follow.go": "go/follow/follow.go"} {
		text, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go", "go.mod"), []byte("module loops\n\ngo 1.25.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "loop")
	for _, args := range [][]string{{"vet", "./..."}, {"build", "-o", program, "."}} {
		build := exec.Command("go", args...)
		build.Dir = filepath.Join(dir, "go")
		build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	return program
}

func toHost(t *testing.T, host *demoHost) *line { return startLine(t, host.url) }

// command runs a loop as a process, until it ends or the test does.
func command(dir, name string, args ...string) func(*testing.T, *line, loopConfig) func() []string {
	return func(t *testing.T, _ *line, c loopConfig) func() []string {
		t.Helper()
		config, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(name, append(append([]string(nil), args...), string(config))...)
		cmd.Dir = dir
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var lines []string
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
				mu.Lock()
				lines = append(lines, scanner.Text())
				mu.Unlock()
			}
			_ = cmd.Wait()
		}()
		t.Cleanup(func() {
			// A loop that has stopped leaves nothing that keeps its process.
			if !t.Failed() {
				eventually(t, "the process ends", func() bool {
					select {
					case <-ended:
						return true
					default:
						return false
					}
				})
			}
			_ = cmd.Process.Kill()
			<-ended
			if text := stderr.String(); text != "" && !strings.Contains(text, "ExperimentalWarning") {
				t.Errorf("it complains: %s", text)
			}
		})
		return func() []string {
			mu.Lock()
			defer mu.Unlock()
			return append([]string(nil), lines...)
		}
	}
}

// toPages puts a network in front of the host and of a server with the pages
// that run the loops in a browser.
func toPages(dir string) func(*testing.T, *demoHost) *line {
	return func(t *testing.T, host *demoHost) *line {
		t.Helper()
		target, err := url.Parse(host.url)
		if err != nil {
			t.Fatal(err)
		}
		files := http.StripPrefix("/loops/", http.FileServer(http.Dir(dir)))
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host
			},
			Transport:     &http.Transport{DisableKeepAlives: true},
			FlushInterval: -1,
			ErrorLog:      log.New(io.Discard, "", 0),
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/loops/") {
				proxy.ServeHTTP(w, r)
				return
			}
			// Packages that are made for bundlers leave the ending out.
			if strings.Contains(r.URL.Path, "/node_modules/") && path.Ext(r.URL.Path) == "" {
				r.URL.Path += ".js"
			}
			files.ServeHTTP(w, r)
		}))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		l := startLine(t, server.URL)
		t.Cleanup(func() {
			l.cut()
			server.CloseClientConnections()
			server.Close()
		})
		return l
	}
}

// inPage runs a loop in a page of Chromium.
func inPage(name string) func(*testing.T, *line, loopConfig) func() []string {
	return func(t *testing.T, l *line, c loopConfig) func() []string {
		t.Helper()
		config, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		p := openTab(t, l.url+"/loops/page.html")
		p.wait("window.ready")
		p.eval(fmt.Sprintf("void begin(%q, %s)", name, config), nil)
		return func() (lines []string) {
			p.eval("said", &lines)
			return lines
		}
	}
}
