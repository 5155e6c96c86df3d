//go:build unix

package rueidisstore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// The tests in this file start the test binary again as a host: a store, an
// engine and an executor whose handler asks, told what to do line by line. One
// with a fault kills itself when it gets there.
const (
	envHostAddr   = "RUEIDISSTORE_HOST_ADDR"
	envHostPrefix = "RUEIDISSTORE_HOST_PREFIX"
	envHostFault  = "RUEIDISSTORE_HOST_FAULT"
)

// The points between an answer and the run that goes on with it.
const (
	beforeResolve    = "before Resolve"
	afterResolve     = "after Resolve"
	beforeResume     = "before Resume"
	afterResume      = "after Resume"
	beforeHandedOver = "before HandedOver"
	afterHandedOver  = "after HandedOver"
	// afterCancel is between a cancel request and the end of the task.
	afterCancel = "after RequestCancel"
)

// Before TestMain, which would start a server.
func init() {
	if os.Getenv(envHostPrefix) == "" {
		return
	}
	if err := askingHost(); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fault is the point at which this process dies.
type fault string

func (f fault) at(point string) {
	if string(f) == point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is on its way
	}
}

type faultyStore struct {
	*Store
	fault
}

func (s faultyStore) Resolve(ctx context.Context, r engine.Resolution) (engine.Verdict, error) {
	s.at(beforeResolve)
	v, err := s.Store.Resolve(ctx, r)
	if v == engine.VerdictAccepted && err == nil {
		s.at(afterResolve)
	}
	return v, err
}

func (s faultyStore) HandedOver(ctx context.Context, taskID, suspendID string, fence uint64) error {
	s.at(beforeHandedOver)
	if s.fault == afterResolve {
		select {} // a run of this process that is woken by the answer gets no further
	}
	err := s.Store.HandedOver(ctx, taskID, suspendID, fence)
	if err == nil {
		s.at(afterHandedOver)
	}
	return err
}

func (s faultyStore) RequestCancel(ctx context.Context, taskID, reason string) (engine.Task, error) {
	task, err := s.Store.RequestCancel(ctx, taskID, reason)
	if err == nil {
		s.at(afterCancel)
	}
	return task, err
}

type faultyExecutor struct {
	*localexec.Executor
	fault
}

func (x faultyExecutor) Resume(ctx context.Context, task engine.Task, s engine.Suspension, a engine.Action) error {
	x.at(beforeResume)
	err := x.Executor.Resume(ctx, task, s, a)
	x.at(afterResume)
	return err
}

// askInput is a task's input.
type askInput struct {
	ExpiresIn int64  `json:"expiresInMs"`
	Default   string `json:"default"`
	Two       bool   `json:"two"` // another question, t, at the same time
}

// ask is a handler as one that can be restarted should be: what it did before it
// asked, it does not do again.
func ask(ctx context.Context, run *engine.Run, in askInput) (string, error) {
	if !run.Restarted() {
		if err := run.Emit(ctx, engine.Message{Text: "asking"}); err != nil {
			return "", err
		}
	}
	s := engine.Suspended{SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"approve", "reject"}}
	if in.ExpiresIn > 0 {
		at := run.Task().CreatedAt.Add(time.Duration(in.ExpiresIn) * time.Millisecond)
		s.ExpiresAt = &at
	}
	if in.Default != "" {
		s.Default = &engine.DefaultAction{ActionType: in.Default}
	}
	if !in.Two {
		return await(ctx, run, s)
	}
	other := s
	other.SuspendID, other.ExpiresAt, other.Default = "t", nil, nil
	errs := make(chan error, 2)
	for _, s := range []engine.Suspended{s, other} {
		go func() {
			_, err := await(ctx, run, s)
			errs <- err
		}()
	}
	return "both", errors.Join(<-errs, <-errs)
}

// await asks and tells the answer.
func await(ctx context.Context, run *engine.Run, s engine.Suspended) (string, error) {
	a, err := run.Suspend(ctx, s)
	if err != nil {
		return "", err
	}
	if err := run.Emit(ctx, engine.Message{Text: "answered " + a.ActionType + " " + a.ClientActionID}); err != nil {
		return "", err
	}
	return a.ActionType, nil
}

// askingHost serves "create <id> <input>", "answer <task> <action id>" (of s, or, if
// the id begins with t, of t) and "cancel <task>", until its input ends.
func askingHost() error {
	f := fault(os.Getenv(envHostFault))
	store, err := New(Config{
		Redis:  rueidis.ClientOption{InitAddress: []string{os.Getenv(envHostAddr)}},
		Prefix: os.Getenv(envHostPrefix),
	})
	if err != nil {
		return err
	}
	x, err := localexec.New(localexec.Config{}, localexec.Handle("ask", ask, localexec.Restartable()))
	if err != nil {
		return err
	}
	eng, err := engine.New(engine.Config{
		Store: faultyStore{store, f}, Executor: faultyExecutor{x, f}, Ownership: engine.OwnerOnly(),
		Lease:  engine.LeaseConfig{TTL: processTTL},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	ann := engine.AuthContext{Subject: "ann"}
	fmt.Fprintln(os.Stdout, "ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word := strings.SplitN(lines.Text(), " ", 3)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		switch word[0] {
		case "create":
			res, err := eng.Create(ctx, ann, engine.CreateRequest{
				ClientRequestID: word[1], TaskType: "ask", Input: json.RawMessage(word[2]),
			})
			fmt.Fprintln(os.Stdout, res.Task.ID, engine.CodeOf(err))
		case "answer":
			suspendID := "s"
			if strings.HasPrefix(word[2], "t") {
				suspendID = "t"
			}
			res, err := eng.Act(ctx, ann, engine.ActionRequest{
				TaskID: word[1], SuspendID: suspendID, ActionType: "approve", ClientActionID: word[2],
			})
			fmt.Fprintln(os.Stdout, cmpStatus(res.Status, err))
		case "cancel":
			_, err := eng.Cancel(ctx, ann, word[1], "enough")
			fmt.Fprintln(os.Stdout, "cancelled", engine.CodeOf(err))
		}
		cancel()
	}
	return nil
}

func cmpStatus(status engine.ActionStatus, err error) string {
	if err != nil {
		return string(engine.CodeOf(err))
	}
	return string(status)
}

// host is an askingHost in a process of its own.
type host struct {
	*exec.Cmd
	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Reader
}

func startHost(t *testing.T, cfg Config, dies string) *host {
	t.Helper()
	return launch(t, LastLines(t), envHostAddr+"="+cfg.Redis.InitAddress[0], envHostPrefix+"="+cfg.Prefix, envHostFault+"="+dies)
}

// launch starts the test binary as a host that env makes of it.
func launch(t *testing.T, stderr io.Writer, env ...string) *host {
	t.Helper()
	h := &host{t: t, Cmd: exec.CommandContext(t.Context(), os.Args[0])}
	h.Env = append(os.Environ(), env...)
	h.Stderr = stderr
	var err error
	if h.in, err = h.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.lines = bufio.NewReader(out)
	t.Cleanup(h.kill)
	if line := h.line(); line != "ready" {
		t.Fatalf("the host says %q", line)
	}
	return h
}

func (h *host) kill() {
	_ = h.Process.Kill()
	_ = h.Wait()
}

// line is what the host says next; "" if it is dead.
func (h *host) line() string {
	h.t.Helper()
	line, err := h.lines.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (h *host) do(line string) string {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, line); err != nil {
		h.t.Fatal(err)
	}
	return h.line()
}

// awaitDeath fails unless the host kills itself.
func (h *host) awaitDeath() {
	h.t.Helper()
	dead := make(chan error, 1)
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, h.lines)
		dead <- h.Wait()
	}()
	select {
	case err := <-dead:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			h.t.Fatalf("the host ended with %v", err)
		}
	case <-time.After(patience):
		h.t.Fatal("the host does not get to its fault")
	}
}

// asked creates a task on h, and returns when it waits for its answer.
func asked(t *testing.T, b *bench, h *host, input string) string {
	t.Helper()
	id := strings.TrimSpace(h.do("create " + b.token() + " " + input))
	if !validID(id) {
		t.Fatalf("create gave %q", id)
	}
	eventually(t, "the question", func() bool { return len(b.get(id).Suspensions) == 1+strings.Count(input, `"two"`) })
	return id
}

// awaitParked waits until nobody holds the task.
func awaitParked(t *testing.T, b *bench, taskID string) {
	t.Helper()
	eventually(t, "nobody holds the task", func() bool {
		_, err := b.do("HGET", b.keys.hold(taskID), "holder").ToString()
		return rueidis.IsRedisNil(err)
	})
}

// wantOnce fails unless the task goes on to its end, and did everything once.
func wantOnce(t *testing.T, b *bench, taskID, answered string) {
	t.Helper()
	const limit = 40 * time.Second
	for deadline := time.Now().Add(limit); !b.get(taskID).Status.Terminal(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the task did not end within %v: %s", limit, story(b, taskID))
		}
	}
	want := "STARTED MESSAGE(asking) SUSPENDED ACTION_ACCEPTED MESSAGE(answered " + answered + ") COMPLETED"
	if got := workOf(b, taskID); got != want {
		t.Errorf("the log is %s, want %s", story(b, taskID), want)
	}
	if s := b.suspension(taskID, "s"); s.Open || !s.HandedOver || s.Answer == nil {
		t.Errorf("the suspension is %+v", s)
	}
}

func story(b *bench, taskID string) string {
	b.Helper()
	var parts []string
	for _, ev := range b.read(taskID, engine.EventID{}, 100).Events {
		part := strings.TrimPrefix(string(ev.Type), "TASK_")
		if ev.Type == engine.TypeStarted {
			var s engine.Started
			if err := json.Unmarshal(ev.Payload, &s); err != nil {
				b.Fatal(err)
			}
			if s.Restarts > 0 {
				part = fmt.Sprintf("RESTARTED(%d)", s.Restarts)
			}
		}
		if ev.Type == engine.TypeMessage {
			var m engine.Message
			if err := json.Unmarshal(ev.Payload, &m); err != nil {
				b.Fatal(err)
			}
			part += "(" + m.Text + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

var restarted = regexp.MustCompile(`RESTARTED\((\d+)\) `)

// workOf is the story without the restarts, which are counted from one on: how
// many there are depends on when a process died.
func workOf(b *bench, taskID string) string {
	b.Helper()
	all := story(b, taskID)
	for i, found := range restarted.FindAllStringSubmatch(all, -1) {
		if found[1] != strconv.Itoa(i+1) {
			b.Errorf("restart %d is told as %s: %s", i+1, found[1], all)
		}
	}
	return restarted.ReplaceAllString(all, "")
}

// answerAgain does what a client does that heard nothing: it repeats the answer.
func answerAgain(t *testing.T, h *host, taskID, dies string) {
	t.Helper()
	want := engine.ActionStatusDeduplicated
	if dies == beforeResolve {
		want = engine.ActionStatusAccepted
	}
	if got := h.do("answer " + taskID + " c"); got != string(want) {
		t.Errorf("the repeated answer gave %s, want %s", got, want)
	}
}

// The process that runs the task accepts the answer and dies.
func TestKilledWhileItAnswersItself(t *testing.T) {
	t.Parallel()
	for _, dies := range []string{beforeResolve, afterResolve, beforeHandedOver, afterHandedOver} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			b := open(t, cfg)
			h := startHost(t, cfg, dies)
			id := asked(t, b, h, `{}`)
			h.do("answer " + id + " c")
			h.awaitDeath()
			next := startHost(t, cfg, "")
			answerAgain(t, next, id, dies)
			wantOnce(t, b, id, "approve c")
		})
	}
}

// The process that ran the task is long dead; the one that accepts the answer
// dies too.
func TestKilledWhileItAnswersForTheDead(t *testing.T) {
	t.Parallel()
	for _, dies := range []string{beforeResolve, afterResolve, beforeResume, afterResume, beforeHandedOver, afterHandedOver} {
		for _, parked := range []bool{true, false} {
			name := dies
			if !parked {
				name += ", before anybody noticed the first death"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cfg := testConfig(t)
				b := open(t, cfg)
				first := startHost(t, cfg, "")
				id := asked(t, b, first, `{}`)
				first.kill()
				second := startHost(t, cfg, dies)
				if parked {
					awaitParked(t, b, id)
				}
				second.do("answer " + id + " c")
				second.awaitDeath()
				third := startHost(t, cfg, "")
				answerAgain(t, third, id, dies)
				wantOnce(t, b, id, "approve c")
			})
		}
	}
}

// Another process than the one that waits accepts the answer and dies: the run
// has it all the same.
func TestKilledWhileItAnswersForAnother(t *testing.T) {
	t.Parallel()
	for _, dies := range []string{beforeResolve, afterResolve, beforeResume, afterResume} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			b := open(t, cfg)
			running := startHost(t, cfg, "")
			id := asked(t, b, running, `{}`)
			accepting := startHost(t, cfg, dies)
			accepting.do("answer " + id + " c")
			if dies == beforeResolve || dies == afterResolve {
				accepting.awaitDeath() // the others depend on who is faster
			}
			answerAgain(t, running, id, dies)
			wantOnce(t, b, id, "approve c")
		})
	}
}

// Nobody is alive when the suspension expires; or whoever lets it expire dies.
func TestExpiryOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	for _, dies := range []string{"", beforeResolve, afterResolve, beforeResume, afterHandedOver} {
		name := dies
		if dies == "" {
			name = "nobody alive"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			b := open(t, cfg)
			first := startHost(t, cfg, "")
			id := asked(t, b, first, `{"expiresInMs":4000,"default":"reject"}`)
			first.kill()
			if dies != "" {
				startHost(t, cfg, dies).awaitDeath()
			} else {
				expires := b.get(id).Suspensions[0].ExpiresAt
				eventually(t, "its time is over", func() bool { return time.Since(*expires) > 0 })
			}
			startHost(t, cfg, "")
			started := time.Now()
			eventually(t, "it expires", func() bool { return len(b.get(id).Suspensions) == 0 })
			if took := time.Since(started); took > expiryClaim+10*time.Second {
				t.Errorf("after the start it took %v", took)
			}
			wantOnce(t, b, id, "reject ")
		})
	}
}

// Everything is restarted, Redis too.
func TestAnsweredOutlivesARestartOfEverything(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.AppendOnly("always"))
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	b := open(t, cfg)
	first := startHost(t, cfg, "")
	waiting, answered := asked(t, b, first, `{}`), asked(t, b, first, `{}`)
	first.kill()
	second := startHost(t, cfg, afterResolve)
	second.do("answer " + answered + " c")
	second.awaitDeath()
	server.Kill()
	server.Start()
	eventually(t, "Redis is back", func() bool { return b.Ready(t.Context()) == nil })
	third := startHost(t, cfg, "")
	wantOnce(t, b, answered, "approve c")
	if s := b.suspension(waiting, "s"); !s.Open {
		t.Errorf("the one that waits is %+v", s)
	}
	if got := third.do("answer " + waiting + " c"); got != string(engine.ActionStatusAccepted) {
		t.Errorf("the answer gave %s", got)
	}
	wantOnce(t, b, waiting, "approve c")
}
