//go:build unix

package rueidisstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// The test binary is a working host when these are set: it runs tasks of the
// types work, pages (both restartable) and once, and can be shut down.
const (
	envWorkerAddr   = "RUEIDISSTORE_WORKER_ADDR"
	envWorkerPrefix = "RUEIDISSTORE_WORKER_PREFIX"
)

// Before TestMain, which would start a server.
func init() {
	if os.Getenv(envWorkerPrefix) == "" {
		return
	}
	if err := workingHost(); err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// work goes on until it is told to stop; run again, it is done at once.
func work(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
	if run.Restarted() {
		return "done", nil
	}
	<-ctx.Done()
	return "", context.Cause(ctx)
}

// book is the checkpoint of a task of type pages.
type book struct {
	Page int
	Refs map[string]any
}

// pages writes eight pages and saves with every second one. The first run stops
// before the fourth and waits to be killed; a run that goes on asks before it ends.
func pages(ctx context.Context, run *engine.Run, in map[string]any) (any, error) {
	b := book{Refs: in}
	if _, err := run.Saved(&b); err != nil {
		return nil, err
	}
	for page := b.Page + 1; page <= 8; page++ {
		if page == 4 && !run.Restarted() {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		text := engine.Message{Text: fmt.Sprint("page ", page)}
		if page%2 == 1 {
			run.Stream(text)
			continue
		}
		b.Page = page
		if err := run.Save(ctx, b, text); err != nil {
			return nil, err
		}
	}
	answer, err := run.Suspend(ctx, engine.Suspended{Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"approve"}})
	return map[string]any{"answer": answer.ActionType, "refs": b.Refs}, err
}

// workingHost serves "create <type> <id>" and "shutdown <time>", which it answers
// with how long that took, until its input ends.
func workingHost() error {
	store, err := New(Config{
		Redis:  rueidis.ClientOption{InitAddress: []string{os.Getenv(envWorkerAddr)}},
		Prefix: os.Getenv(envWorkerPrefix),
	})
	if err != nil {
		return err
	}
	x, err := localexec.New(localexec.Config{},
		localexec.Handle("work", work, localexec.Restartable()), localexec.Handle("once", work),
		localexec.Handle("pages", pages, localexec.Restartable()))
	if err != nil {
		return err
	}
	eng, err := engine.New(engine.Config{
		Store: store, Executor: x, Ownership: engine.OwnerOnly(), Lease: engine.LeaseConfig{TTL: processTTL},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word := strings.Fields(lines.Text())
		switch word[0] {
		case "create":
			res, err := eng.Create(context.Background(), engine.AuthContext{Subject: "ann"}, engine.CreateRequest{
				ClientRequestID: word[2], TaskType: word[1], Input: json.RawMessage(`{"id":616581622363398142}`),
			})
			fmt.Fprintln(os.Stdout, res.Task.ID, engine.CodeOf(err))
		case "shutdown":
			limit, err := time.ParseDuration(word[1])
			if err != nil {
				return err
			}
			start := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			err = eng.Shutdown(ctx)
			cancel()
			fmt.Fprintln(os.Stdout, time.Since(start).Milliseconds(), err)
		}
	}
	return nil
}

// capture keeps all that a host logs, and passes it on.
type capture struct {
	mu  sync.Mutex
	all bytes.Buffer
	to  io.Writer
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all.Write(p)
	return c.to.Write(p)
}

// about gives the lines that name a task.
func (c *capture) about(taskID string) (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(c.all.String()) {
		if strings.Contains(line, taskID) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func startWorker(t *testing.T, cfg Config) (*host, *capture) {
	t.Helper()
	log := &capture{to: LastLines(t)}
	return launch(t, log, envWorkerAddr+"="+cfg.Redis.InitAddress[0], envWorkerPrefix+"="+cfg.Prefix), log
}

// begin creates a task on h and returns when its handler runs.
func begin(t *testing.T, b *bench, h *host, taskType string) string {
	t.Helper()
	id := strings.TrimSpace(h.do("create " + taskType + " " + b.token()))
	if !validID(id) {
		t.Fatalf("create gave %q", id)
	}
	eventually(t, "the task runs", func() bool { return b.get(id).Status == engine.StatusRunning })
	return id
}

// A process that is shut down gives what another can run away at once, and the
// other one does not take it for lost.
func TestShutdownHandsTasksOverAtOnce(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := open(t, cfg)
	first, firstLog := startWorker(t, cfg)
	_, log := startWorker(t, cfg)
	id, once := begin(t, b, first, "work"), begin(t, b, first, "once")

	// The limit is far longer than the test waits for anything.
	limit := 4 * patience
	if _, err := fmt.Fprintln(first.in, "shutdown", limit); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	eventually(t, "the other process has ended the task", func() bool { return b.get(id).Status == engine.StatusCompleted })
	t.Logf("the task was over %v after the shutdown began, lease TTL %v", time.Since(start).Round(time.Millisecond), processTTL)
	if got := b.get(once).Status; got != engine.StatusRunning {
		t.Errorf("a task that may not be run again is %s; it was to have the time", got)
	}
	if lines := strings.Join(firstLog.about(id), "\n"); !strings.Contains(lines, "INFO") || !strings.Contains(lines, "left to another process") {
		t.Errorf("the process that leaves said:\n%s", lines)
	}
	lines := strings.Join(log.about(id), "\n")
	if !strings.Contains(lines, "level=INFO") || strings.Contains(lines, "level=WARN") || strings.Contains(lines, "lost") {
		t.Errorf("the process that goes on said:\n%s", lines)
	}
	// The task that stays ends; so does the shutdown, long before its limit.
	if _, err := b.RequestCancel(t.Context(), once, "enough"); err != nil {
		t.Fatal(err)
	}
	if line := first.line(); !strings.HasSuffix(line, "<nil>") {
		t.Errorf("the shutdown ended with %s", line)
	}
}

// With nobody else there the task waits for whoever comes.
func TestShutdownLeavesTasksToTheNextProcess(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := open(t, cfg)
	first, _ := startWorker(t, cfg)
	id := begin(t, b, first, "work")
	start := time.Now()
	if line := first.do(fmt.Sprint("shutdown ", 4*patience)); !strings.HasSuffix(line, "<nil>") || time.Since(start) > patience {
		t.Errorf("the shutdown took %v: %s", time.Since(start), line)
	}
	if got := b.get(id); got.Status != engine.StatusRunning {
		t.Errorf("the task is %s", got.Status)
	}
	_, log := startWorker(t, cfg)
	eventually(t, "the next process has ended the task", func() bool { return b.get(id).Status == engine.StatusCompleted })
	if lines := strings.Join(log.about(id), "\n"); strings.Contains(lines, "level=WARN") {
		t.Errorf("the next process said:\n%s", lines)
	}
}
