package redistest

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// Instance is one server. Its address stays the same through restarts.
type Instance struct {
	t      testing.TB
	name   string
	dir    string
	port   int
	args   []string
	config string
	auth   bool
	secure *tls.Config
	caFile string

	mu   sync.Mutex
	proc *process
}

// Server starts one server without persistence and returns when it answers.
func Server(t testing.TB, opts ...Option) *Instance {
	t.Helper()
	return start(t, "the server", nil, opts)
}

// start starts a server on a free port; lines gives what depends on that.
func start(t testing.TB, name string, lines func(port int) []string, opts []Option) *Instance {
	t.Helper()
	var s setup
	for _, o := range opts {
		o(&s)
	}
	port := freePort(t)
	i := &Instance{t: t, name: name, dir: t.TempDir(), port: port, auth: true}
	conf := []string{
		"bind 127.0.0.1",
		"dir " + i.dir,
		`save ""`,
		"appendonly no",
		"repl-diskless-sync-delay 0",
		"user " + adminName + " on >" + adminPassword + " ~* &* +@all",
	}
	if s.secure {
		conf = append(conf, i.secureLines()...)
	} else {
		conf = append(conf, "port "+strconv.Itoa(port))
	}
	if lines != nil {
		conf = append(conf, lines(port)...)
	}
	i.launch(append(conf, s.lines...))
	return i
}

// launch writes the configuration and starts the server for the first time.
func (i *Instance) launch(conf []string, args ...string) {
	i.t.Helper()
	path, err := writeConfig(i.dir, conf)
	if err != nil {
		i.t.Fatal(err)
	}
	i.config, i.args = path, args
	i.t.Cleanup(i.end)
	i.Start()
}

func (i *Instance) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc != nil {
		i.proc.kill()
	}
	if i.t.Failed() {
		showLog(i.t, i.name+" at "+i.Addr(), i.dir)
	}
}

// Addr is host:port.
func (i *Instance) Addr() string { return loopback(i.port) }

// Port is the port of Addr.
func (i *Instance) Port() int { return i.port }

// PID is the server's process id.
func (i *Instance) PID() int { return i.running().pid() }

func (i *Instance) running() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.proc
}

// Start starts a server that was killed, with what it left on disk, and returns
// when it answers commands.
func (i *Instance) Start() {
	i.t.Helper()
	binary := Binary(i.t)
	proc, err := startProcess(i.dir, binary, append([]string{i.config}, i.args...)...)
	if err != nil {
		i.t.Fatalf("redistest: start %s: %v", binary, err)
	}
	i.mu.Lock()
	i.proc = proc
	i.mu.Unlock()
	i.await("it answers", func() (bool, error) {
		if proc.gone() {
			return false, fmt.Errorf("it has ended by itself")
		}
		// Another server may sit on the port that was free a moment ago.
		info, err := i.Info("server")
		if err != nil {
			return false, err
		}
		if info["process_id"] != strconv.Itoa(proc.pid()) {
			return false, fmt.Errorf("another process listens on its port")
		}
		_, err = i.Do("PING") // LOADING until the data is there
		return err == nil, err
	})
}

// Kill ends the server at once, as a crash does.
func (i *Instance) Kill() {
	i.running().kill()
}

// Restart kills the server and starts it again.
func (i *Instance) Restart() {
	i.t.Helper()
	i.Kill()
	i.Start()
}

// Pause stops the process: it keeps its connections and answers nobody.
func (i *Instance) Pause() { i.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (i *Instance) Resume() { i.signal(syscall.SIGCONT) }

func (i *Instance) signal(s syscall.Signal) {
	i.t.Helper()
	if err := i.running().signal(s); err != nil {
		i.t.Errorf("redistest: signal %s: %v", i.name, err)
	}
}

// Do sends one command on a connection of its own, as a user who may do
// everything. The reply is a string, an int64, a []any of replies, or nil.
func (i *Instance) Do(args ...string) (any, error) {
	return call(i.Addr(), i.secure, i.auth, args...)
}

// Must is Do, and fails the test on an error.
func (i *Instance) Must(args ...string) any {
	i.t.Helper()
	reply, err := i.Do(args...)
	if err != nil {
		i.t.Fatalf("redistest: %s at %s: %s: %v", i.name, i.Addr(), args[0], err)
	}
	return reply
}

// Info is a section of INFO, field by field.
func (i *Instance) Info(section string) (map[string]string, error) {
	reply, err := i.Do("INFO", section)
	if err != nil {
		return nil, err
	}
	return fields(text(reply), "\r\n", ":"), nil
}

// connection is a line of CLIENT LIST.
type connection struct{ id, name, flags string }

// connections are those of the test's clients: neither replicas and primaries
// nor this package's own.
func (i *Instance) connections() ([]connection, error) {
	reply, err := i.Do("CLIENT", "LIST")
	if err != nil {
		return nil, err
	}
	var all []connection
	for line := range strings.Lines(text(reply)) {
		f := fields(strings.TrimSpace(line), " ", "=")
		if f["user"] == adminName || strings.ContainsAny(f["flags"], "SM") {
			continue
		}
		all = append(all, connection{id: f["id"], name: f["name"], flags: f["flags"]})
	}
	return all, nil
}

// Connections is how many connections clients have, this package's own and
// replication left out.
func (i *Instance) Connections() int {
	i.t.Helper()
	all, err := i.connections()
	if err != nil {
		i.t.Fatalf("redistest: list the connections of %s: %v", i.name, err)
	}
	return len(all)
}

// CutConnections cuts all connections of clients at once and returns how many
// there were.
func (i *Instance) CutConnections() int {
	i.t.Helper()
	all, err := i.connections()
	if err != nil {
		i.t.Errorf("redistest: list the connections of %s: %v", i.name, err)
	}
	for _, c := range all {
		_, _ = i.Do("CLIENT", "KILL", "ID", c.id) // gone by itself meanwhile
	}
	return len(all)
}

// CutConnection cuts the nth of the connections there are now, modulo their
// number, and reports whether there was one.
func (i *Instance) CutConnection(nth int) bool {
	i.t.Helper()
	all, err := i.connections()
	if err != nil || len(all) == 0 {
		return false
	}
	_, err = i.Do("CLIENT", "KILL", "ID", all[nth%len(all)].id)
	return err == nil
}

// await polls until cond holds. What it said last is in the failure.
func (i *Instance) await(what string, cond func() (bool, error)) {
	i.t.Helper()
	if err := poll(patience, cond); err != nil {
		showLog(i.t, i.name, i.dir)
		i.t.Fatalf("redistest: %s at %s: not within %v: %s: %v", i.name, i.Addr(), patience, what, err)
	}
}

func poll(limit time.Duration, cond func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := cond()
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			if err == nil {
				err = os.ErrDeadlineExceeded
			}
			return err
		}
		<-tick.C
	}
}

// fields splits "k=v k=v" and "k:v\r\nk:v".
func fields(s, between, equals string) map[string]string {
	m := map[string]string{}
	for _, part := range strings.Split(s, between) {
		if k, v, ok := strings.Cut(part, equals); ok {
			m[k] = v
		}
	}
	return m
}

func text(reply any) string {
	s, _ := reply.(string)
	return s
}

// texts are the elements of a reply that are strings.
func texts(reply any) []string {
	all, _ := reply.([]any)
	out := make([]string, 0, len(all))
	for _, v := range all {
		out = append(out, text(v))
	}
	return slices.Clip(out)
}
