//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// stage is what a scenario plays on: servers, limits, the report.
type stage struct {
	*options
	dir      string // temporary
	files    int    // descriptors we may have
	report   *report.Report
	progress *progress
	hostPath string
	redisURL string
	redisP   *measured
	procs    []*proc.Process // to stop, last one first
	clients  []*http.Client
	round    int
	window   int // connects at once in a loop, 0: the crowd's default
	// hostFiles is the limit of descriptors of demo hosts, 0: ours.
	hostFiles int
}

// measured is a process whose use is measured. Another one may take its place
// while it is.
type measured struct {
	name string
	pid  atomic.Int64
	p    *proc.Process // nil: not ours
}

func newMeasured(name string, pid int, p *proc.Process) *measured {
	m := &measured{name: name, p: p}
	m.pid.Store(int64(pid))
	return m
}

// execute runs a scenario. The report is nil if nothing was measured.
func execute(ctx context.Context, o *options, stderr io.Writer) (r *report.Report, err error) {
	s := &stage{options: o, progress: newProgress(stderr)}
	defer s.progress.close()
	if s.files, err = proc.RaiseFiles(); err != nil {
		return nil, err
	}
	if need := o.subscribers + 200; need > s.files {
		return nil, fmt.Errorf("%d subscribers need %d descriptors, and the hard limit is %d: at most %d subscribers (see ulimit -Hn)",
			o.subscribers, need, s.files, s.files-200)
	}
	if o.loops == 0 {
		s.loops = min(runtime.GOMAXPROCS(0), 4)
	}
	if s.dir, err = os.MkdirTemp("", "loadtest-"); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	// Also when a scenario panics: what was started does not outlive it.
	defer s.stopAll()

	s.report = &report.Report{Scenario: o.scenario, Command: o.command, Started: time.Now(), Machine: machine()}
	err = findScenario(o.scenario).run(ctx, s)
	s.report.Seconds = time.Since(s.report.Started).Seconds()
	if ctx.Err() != nil {
		s.report.Interrupted, err = true, nil
	}
	for _, p := range s.procs {
		select {
		case <-p.Exited():
			if !p.Stopped() {
				err = errors.Join(err, fmt.Errorf("a process ended by itself: %s", strings.TrimSpace(p.Said())))
			}
		default:
		}
	}
	if len(s.report.Rounds) == 0 {
		return nil, errors.Join(err, ctx.Err())
	}
	return s.report, err
}

func (s *stage) stopAll() {
	for _, c := range s.clients {
		c.CloseIdleConnections()
	}
	for i := len(s.procs) - 1; i >= 0; i-- {
		s.procs[i].Stop(3 * time.Second)
	}
}

// start starts a process that ends with the stage.
func (s *stage) start(c proc.Command) (*proc.Process, error) {
	p, err := proc.Start(c)
	if err == nil {
		s.procs = append(s.procs, p)
	}
	return p, err
}

// servers are those to drive: the targets, or a demo host of our own.
func (s *stage) servers(ctx context.Context, hostArgs ...string) ([]*server, error) {
	if s.target == "" {
		one, err := s.startHost(ctx, hostArgs...)
		return []*server{one}, err
	}
	var all []*server
	for raw := range strings.SplitSeq(s.target, ",") {
		one, err := s.newServer(ctx, raw)
		if err != nil {
			return nil, fmt.Errorf("-target: %w", err)
		}
		if i := len(all); i < len(s.pids) {
			one.proc = newMeasured("server", s.pids[i], nil)
		}
		all = append(all, one)
	}
	s.report.Server = s.target
	return all, nil
}

// startHost builds (once) and starts a demo host.
func (s *stage) startHost(ctx context.Context, more ...string) (*server, error) {
	if err := s.buildHost(ctx); err != nil {
		return nil, err
	}
	if err := s.startRedis(ctx); err != nil {
		return nil, err
	}
	args := []string{"-addr", "127.0.0.1:0"}
	if s.redisURL != "" {
		args = append(args, "-redis", s.redisURL, "-redis-prefix", "loadtest-"+strconv.Itoa(os.Getpid()))
	}
	if s.flush != "" {
		args = append(args, "-flush", s.flush)
	}
	profiles := s.pprof || s.profile != ""
	if profiles {
		args = append(args, "-pprof", "127.0.0.1:0")
	}
	args = append(append(args, more...), s.hostArgs...)
	path := s.hostPath
	if s.hostFiles > 0 {
		args = append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, s.hostFiles), path}, args...)
		path = "/bin/sh"
	}
	p, err := s.start(proc.Command{Path: path, Args: args, CPUs: s.serverCPUs, Env: s.hostEnv()})
	if err != nil {
		return nil, err
	}
	var pprof string
	if profiles {
		if pprof, err = p.AwaitLine("profiles on ", 20*time.Second); err != nil {
			return nil, fmt.Errorf("the demo host: %w", err)
		}
	}
	url, err := p.AwaitLine("listening on ", 20*time.Second)
	if err != nil {
		return nil, fmt.Errorf("the demo host: %w", err)
	}
	one, err := s.newServer(ctx, url)
	if err != nil {
		return nil, err
	}
	one.proc, one.pprof = newMeasured("server", p.PID(), p), pprof
	if s.report.Server != "" {
		return one, nil
	}
	store := "the embedded store"
	if s.redisURL != "" {
		store = "Redis"
	}
	s.report.Server = "the demo host on " + store
	if len(s.serverCPUs) > 0 {
		s.report.Server += fmt.Sprintf(", pinned to CPU %v", s.serverCPUs)
	}
	return one, nil
}

// hostEnv keeps settings of the caller's environment from the demo host, whose
// flags are variables, too.
func (s *stage) hostEnv() []string {
	env := []string{pinnedEnv + "="}
	for _, name := range []string{"ADDR", "REDIS_URL", "REDIS_PREFIX", "HEARTBEAT", "FLUSH", "DRAIN", "MAX_STREAM_LENGTH", "STREAM_TTL", "SUBSCRIBE_TIMEOUT", "PONG_TIMEOUT", "WRITE_TIMEOUT", "MAX_STREAMS", "UPLOAD_DIR"} {
		env = append(env, name+"=")
	}
	return env
}

const hostPackage = "github.com/taskbridge/taskbridge-fiber/examples/quickstart"

func (s *stage) buildHost(ctx context.Context) error {
	if s.hostPath != "" {
		return nil
	}
	if s.host != "" {
		path, err := filepath.Abs(s.host)
		s.hostPath = path
		return err
	}
	s.progress.say("building the demo host")
	path := filepath.Join(s.dir, "quickstart")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, hostPackage).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the demo host (in the module's folder, or give a -host): %w\n%s", err, out)
	}
	s.hostPath = path
	return nil
}

// startRedis starts a server of our own, once, or takes the one that was named.
func (s *stage) startRedis(ctx context.Context) error {
	switch {
	case s.redis == "embedded" || s.redisURL != "":
		return nil
	case s.redis != "start":
		s.redisURL = s.redis
		return nil
	}
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("-redis start: %w", err)
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	p, err := s.start(proc.Command{
		Path: binary, Dir: s.dir, CPUs: s.redisCPUs,
		Args: []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--loglevel", "notice"},
	})
	if err != nil {
		return err
	}
	if _, err := p.AwaitLineWith("eady to accept connections", 20*time.Second); err != nil {
		return fmt.Errorf("redis-server: %w", err)
	}
	s.redisURL = "redis://" + addr
	s.redisP = newMeasured("redis", p.PID(), p)
	return nil
}

// startBare starts this program as the bare server.
func (s *stage) startBare(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := s.start(proc.Command{Path: self, Env: []string{roleEnv + "=bare"}, CPUs: s.serverCPUs})
	if err != nil {
		return nil, err
	}
	url, err := p.AwaitLine("listening on ", 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("the bare server: %w", err)
	}
	one, err := s.newServer(ctx, url)
	if err == nil {
		one.proc = newMeasured("bare loop", p.PID(), p)
	}
	return one, err
}

// crowd makes a crowd for servers.
func (s *stage) crowd(servers ...*server) (*crowd.Crowd, error) {
	var targets []crowd.Target
	for _, one := range servers {
		targets = append(targets, one.target)
	}
	return crowd.New(crowd.Options{Targets: targets, Token: s.subject, Loops: s.loops, Window: s.window, Seed: uint64(s.round)})
}

// freeAddr is an address that was free a moment ago.
func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func machine() report.Machine {
	m := report.Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var set unix.Utsname
	if unix.Uname(&set) == nil {
		m.Kernel = unix.ByteSliceToString(set.Release[:])
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
			}
		}
		m.Cores = strings.Count(string(b), "processor\t:")
	}
	return m
}
