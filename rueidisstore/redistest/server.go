package redistest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen, on a machine that
// has much else to do.
const patience = 45 * time.Second

// Instance is one server. Its address stays the same through restarts.
type Instance struct {
	t      testing.TB
	name   string
	dir    string
	port   int
	args   []string
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
	return launch(t, name, true, func(i *Instance) []string {
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
			conf = append(conf, "port "+strconv.Itoa(i.port))
		}
		if lines != nil {
			conf = append(conf, lines(i.port)...)
		}
		return append(conf, s.lines...)
	})
}

// launch starts a server for the first time. A port that was free a moment ago
// may have been taken; then it tries another one.
func launch(t testing.TB, name string, auth bool, conf func(*Instance) []string, args ...string) *Instance {
	t.Helper()
	const tries = 5
	for try := 1; ; try++ {
		i := &Instance{t: t, name: name, dir: t.TempDir(), port: freePort(t), auth: auth}
		path, err := writeConfig(i.dir, conf(i))
		if err != nil {
			t.Fatal(err)
		}
		i.args = append([]string{path}, args...)
		t.Cleanup(i.end)
		if err = i.start(); err == nil {
			return i
		}
		if try == tries || !errors.Is(err, errPortTaken) {
			t.Fatal(err)
		}
	}
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
	deadline := time.Now().Add(patience)
	err := i.start()
	for errors.Is(err, errPortTaken) && time.Now().Before(deadline) {
		err = i.start() // another process may just have tried whether it is free
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

var errPortTaken = errors.New("its port is taken")

func (i *Instance) start() error {
	i.t.Helper()
	proc, err := startProcess(i.dir, Binary(i.t), i.args...)
	if err != nil {
		return fmt.Errorf("redistest: start %s: %w", i.name, err)
	}
	i.mu.Lock()
	i.proc = proc
	i.mu.Unlock()
	var end error // there is no use in waiting on
	err = poll(patience, func() (bool, error) {
		if proc.gone() {
			end = i.deathOf(proc)
			return true, nil
		}
		info, err := i.Info("server")
		if err != nil {
			return false, err
		}
		if info["process_id"] != strconv.Itoa(proc.pid()) {
			end = errPortTaken
			return true, nil
		}
		_, err = i.Do("PING") // LOADING until the data is there
		return err == nil, err
	})
	if err = errors.Join(end, err); err != nil {
		return fmt.Errorf("redistest: %s at %s does not come up: %w", i.name, i.Addr(), err)
	}
	return nil
}

// deathOf tells why a server ended by itself.
func (i *Instance) deathOf(proc *process) error {
	<-proc.exited
	b, err := os.ReadFile(filepath.Join(i.dir, logName))
	if err == nil && strings.Contains(string(b), "Address already in use") {
		return errPortTaken
	}
	return errors.Join(errors.New("it has ended by itself"), err)
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
func (i *Instance) Pause() {
	i.t.Helper()
	if err := i.running().pause(); err != nil {
		i.t.Errorf("redistest: pause %s: %v", i.name, err)
	}
}

// Resume ends a Pause.
func (i *Instance) Resume() {
	i.t.Helper()
	if err := i.running().resume(); err != nil {
		i.t.Errorf("redistest: resume %s: %v", i.name, err)
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

// configure changes settings one by one: several at once came with 7.0.
func (i *Instance) configure(pairs ...string) {
	i.t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		i.Must("CONFIG", "SET", pair[0], pair[1])
	}
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
		i.t.Fatalf("redistest: %s at %s: not within %v: %s: %s", i.name, i.Addr(), patience, what, clip(err.Error(), 2000))
	}
}

// poll asks until cond holds, less and less often: asking takes a connection, and
// what takes long may take a little longer.
func poll(limit time.Duration, cond func() (bool, error)) error {
	const first, last = 2 * time.Millisecond, 50 * time.Millisecond
	deadline := time.Now().Add(limit)
	for pause := first; ; pause = min(pause*5/4, last) {
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
		time.Sleep(pause)
	}
}

// clip keeps what is printed readable: what the nodes of a Cluster say of its
// slots may take many pages.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s … (%d bytes)", s[:most], len(s))
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
