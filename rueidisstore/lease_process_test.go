//go:build unix

package rueidisstore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The tests in this file start the test binary again, as a worker on a task that
// the environment names.
const (
	envLeaseAddr   = "RUEIDISSTORE_LEASE_ADDR"
	envLeasePrefix = "RUEIDISSTORE_LEASE_PREFIX"
	envLeaseTask   = "RUEIDISSTORE_LEASE_TASK"
	envLeaseTTL    = "RUEIDISSTORE_LEASE_TTL" // a duration
)

// Before TestMain, which would start a server.
func init() {
	if os.Getenv(envLeaseTask) == "" {
		return
	}
	if err := leaseWorker(os.Getenv(envLeaseTask)); err != nil {
		fmt.Fprintln(os.Stdout, "end:", err)
	}
	os.Exit(0)
}

// leaseWorker emits until it is refused, and tells how that went.
func leaseWorker(taskID string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // if the test dies
	defer cancel()
	store, err := New(Config{
		Redis:  rueidis.ClientOption{InitAddress: []string{os.Getenv(envLeaseAddr)}},
		Prefix: os.Getenv(envLeasePrefix),
	})
	if err != nil {
		return err
	}
	ttl, err := time.ParseDuration(os.Getenv(envLeaseTTL))
	if err != nil {
		return err
	}
	eng, err := leaseEngine(store, ttl, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	task, err := store.Get(ctx, taskID, engine.Fresh)
	if err != nil {
		return err
	}
	run, err := eng.Emitter().Open(ctx, task)
	if err != nil {
		return err
	}
	if err := run.Emit(ctx, engine.Started{}); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := run.Progress(ctx, float64(i%100), ""); err != nil {
			<-run.Context().Done()
			last := run.Emit(ctx, engine.Completed{Result: []byte(`"late"`)})
			fmt.Fprintln(os.Stdout, "append:", engine.CodeOf(err))
			fmt.Fprintln(os.Stdout, "cause:", context.Cause(run.Context()))
			fmt.Fprintln(os.Stdout, "last:", engine.CodeOf(last))
			return nil
		}
		if i == 0 {
			fmt.Fprintln(os.Stdout, "working")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leaseProcess is a worker in a process of its own.
type leaseProcess struct {
	*exec.Cmd
	t     *testing.T
	lines *bufio.Reader
}

func startLeaseWorker(t *testing.T, cfg Config, ttl time.Duration, taskID string) *leaseProcess {
	t.Helper()
	p := &leaseProcess{t: t, Cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.Env = append(os.Environ(),
		envLeaseAddr+"="+cfg.Redis.InitAddress[0], envLeasePrefix+"="+cfg.Prefix, envLeaseTask+"="+taskID, envLeaseTTL+"="+ttl.String())
	p.Stderr = LastLines(t)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(out)
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	if line := p.line(); line != "working" {
		t.Fatalf("the worker says %q", line)
	}
	return p
}

func (p *leaseProcess) line() string {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil && err != io.EOF {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (p *leaseProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// leaseHost is this process's engine, and a task for a worker.
func leaseHost(t *testing.T, ttl time.Duration) (*bench, *engine.Engine, engine.Task, Config) {
	t.Helper()
	cfg := testConfig(t)
	b := open(t, cfg)
	eng, err := leaseEngine(b.Store, ttl, cfg.Logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := eng.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return b, eng, b.create(), cfg
}

// follow polls a task to its end, as a client does, and gives its events and
// when the last one came.
func followToEnd(t *testing.T, eng *engine.Engine, taskID string) ([]engine.Event, time.Time) {
	t.Helper()
	var all []engine.Event
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		last := engine.EventID{}
		if len(all) > 0 {
			last = all[len(all)-1].ID
		}
		page, err := eng.Poll(t.Context(), engine.AuthContext{Subject: "ann"},
			engine.PollRequest{TaskID: taskID, After: last, Wait: 10 * time.Second, Max: 500})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Events...)
		if len(all) > 0 && all[len(all)-1].Type.Terminal() {
			return all, time.Now()
		}
	}
	t.Fatal("the stream does not end")
	return nil, time.Time{}
}

func wantWorkerLost(t *testing.T, events []engine.Event) {
	t.Helper()
	last := events[len(events)-1]
	if last.Type != engine.TypeFailed || !strings.Contains(string(last.Payload), `"code":"WORKER_LOST"`) ||
		!strings.Contains(string(last.Payload), `"retryable":true`) {
		t.Errorf("the end is %s %s", last.Type, last.Payload)
	}
	for i, ev := range events {
		if ev.ID.Ordinal != events[0].ID.Ordinal+uint64(i) {
			t.Fatalf("event %d has ordinal %d", i+1, ev.ID.Ordinal)
		}
	}
}

func TestKilledWorkerIsNoticed(t *testing.T) {
	t.Parallel()
	b, eng, task, cfg := leaseHost(t, processTTL)
	worker := startLeaseWorker(t, cfg, processTTL, task.ID)
	// While it lives, for longer than a TTL, nothing happens to its task.
	start := time.Now()
	eventually(t, "two TTLs", func() bool { return time.Since(start) > 2*processTTL })
	if got := b.get(task.ID); got.Status != engine.StatusRunning {
		t.Fatalf("the task is %s while its worker lives", got.Status)
	}
	worker.signal(syscall.SIGKILL)
	killed := time.Now()
	events, ended := followToEnd(t, eng, task.ID)
	wantWorkerLost(t, events)
	if took, most := ended.Sub(killed), processTTL*4/3+5*time.Second; took > most {
		t.Errorf("it took %v, at most %v are promised", took, most)
	} else {
		t.Logf("the stream ended %v after the kill, the TTL is %v", took, processTTL)
	}
}

func TestPausedWorkerWritesNoMore(t *testing.T) {
	t.Parallel()
	b, eng, task, cfg := leaseHost(t, processTTL)
	worker := startLeaseWorker(t, cfg, processTTL, task.ID)
	worker.signal(syscall.SIGSTOP)
	events, _ := followToEnd(t, eng, task.ID)
	wantWorkerLost(t, events)
	worker.signal(syscall.SIGCONT)
	if line := worker.line(); line != "append: "+string(engine.CodeTaskAlreadyTerminal) && line != "append: "+string(engine.CodeTaskConflict) {
		t.Errorf("the worker says %q", line)
	}
	worker.line()
	if line := worker.line(); line == "last: " {
		t.Error("a late end was taken")
	}
	page := b.read(task.ID, engine.EventID{}, 10000)
	if n := len(page.Events); n != len(events) {
		t.Errorf("%d events after the end", n-len(events))
	}
}

// Another worker goes on with the task: the fence, not the end, keeps the first
// one out.
func TestPausedWorkerIsFencedOff(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := open(t, cfg) // without an engine, and so without a reaper
	task := b.create()
	worker := startLeaseWorker(t, cfg, processTTL, task.ID)
	worker.signal(syscall.SIGSTOP)
	var fence uint64
	eventually(t, "the lease runs out", func() bool {
		var err error
		fence, err = b.Acquire(t.Context(), task.ID, "another", time.Minute)
		return err == nil
	})
	mine := func(d engine.Draft) engine.EventID {
		t.Helper()
		ids, err := b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: b.token(), Fence: fence, Events: []engine.Draft{d}})
		if err != nil {
			t.Fatal(err)
		}
		return ids[0]
	}
	first := mine(message("mine"))
	worker.signal(syscall.SIGCONT)
	for _, want := range []string{"append: TASK_CONFLICT", "cause: " + engine.ErrLeaseLost.Error(), "last: TASK_CONFLICT"} {
		if line := worker.line(); line != want {
			t.Errorf("the worker says %q, want %q", line, want)
		}
	}
	if last := mine(completed()); last.Ordinal != first.Ordinal+1 {
		t.Errorf("%d events of the first worker are in the second one's log", last.Ordinal-first.Ordinal-1)
	}
}

// With the default TTL a pause of five seconds costs nothing, and a death shows
// when the documentation says so.
func TestDefaultLease(t *testing.T) {
	t.Parallel()
	const ttl = 15 * time.Second
	b, eng, task, cfg := leaseHost(t, 0)
	worker := startLeaseWorker(t, cfg, 0, task.ID)
	last := func() uint64 { return b.read(task.ID, engine.EventID{}, 1).Last.Ordinal }
	for range 2 {
		worker.signal(syscall.SIGSTOP)
		paused := time.Now()
		eventually(t, "five seconds", func() bool { return time.Since(paused) > 5*time.Second })
		at := last()
		worker.signal(syscall.SIGCONT)
		eventually(t, "it goes on", func() bool { return last() > at+10 })
	}
	worker.signal(syscall.SIGKILL)
	killed := time.Now()
	events, ended := followToEnd(t, eng, task.ID)
	wantWorkerLost(t, events[max(0, len(events)-1):])
	took, promised := ended.Sub(killed), ttl*4/3
	t.Logf("the stream ended %v after the kill", took)
	if took > promised+5*time.Second { // of a busy machine
		t.Errorf("it took %v, at most %v are promised", took, promised)
	}
}
