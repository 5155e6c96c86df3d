package rueidisstore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var redisAddr string

func TestMain(m *testing.M) {
	stop, addr, err := startRedis()
	if err != nil {
		fmt.Fprintln(os.Stderr, "redis-server could not be started:", err)
		os.Exit(1)
	}
	redisAddr = addr
	code := m.Run()
	stop()
	if code == 0 {
		// rueidis closes the connections to nodes that left a Cluster 5 s later,
		// and may be about to look at its topology for 1 s.
		if err := goleak.Find(
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// startRedis starts a server without persistence on a free port.
func startRedis(args ...string) (stop func(), addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	binary := cmp.Or(os.Getenv("REDISTEST_SERVER"), "redis-server")
	// The shell ends the server when its input ends: also if this process dies.
	cmd := exec.Command("sh", append([]string{
		"-c", `"$@" & read _; kill -9 $!; wait $! 2>/dev/null`, "sh", binary,
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	stop = func() {
		_ = input.Close()
		_ = cmd.Wait()
	}
	addr = "127.0.0.1:" + strconv.Itoa(port)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return stop, addr, nil
		}
		if time.Now().After(deadline) {
			stop()
			return nil, "", err
		}
	}
}

var prefixes atomic.Int64

// bench is a store and short words for what tests do with it.
type bench struct {
	testing.TB
	*Store
	raw rueidis.Client // a client of its own, to look behind
	n   atomic.Int64
}

func testConfig(tb testing.TB) Config {
	tb.Helper()
	return Config{
		Redis:  rueidis.ClientOption{InitAddress: []string{redisAddr}},
		Prefix: fmt.Sprintf("t%d", prefixes.Add(1)),
		Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)),
	}
}

func open(tb testing.TB, cfg Config) *bench {
	tb.Helper()
	s, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: cfg.Redis.InitAddress, DisableCache: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		raw.Close()
		_ = s.Close()
	})
	return &bench{TB: tb, Store: s, raw: raw}
}

func (b *bench) do(args ...string) rueidis.RedisResult {
	b.Helper()
	return b.raw.Do(context.Background(), b.raw.B().Arbitrary(args...).Build())
}

func (b *bench) int(args ...string) int64 {
	b.Helper()
	n, err := b.do(args...).AsInt64()
	if err != nil {
		b.Fatalf("%v: %v", args, err)
	}
	return n
}

func (b *bench) create() engine.Task {
	b.Helper()
	now := toMicros(time.Now())
	task, created, err := b.Create(b.Context(), engine.Task{
		Owner: "ann", ClientRequestID: strconv.FormatInt(b.n.Add(1), 10), Type: "t",
		Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
	})
	if err != nil || !created {
		b.Fatalf("Create: created %v, %v", created, err)
	}
	return task
}

func draft(t engine.EventType, payload string) engine.Draft {
	return engine.Draft{Type: t, CreatedAt: toMicros(time.Now()), Payload: []byte(payload)}
}

func message(text string) engine.Draft { return draft(engine.TypeMessage, `{"message":"`+text+`"}`) }
func completed() engine.Draft          { return draft(engine.TypeCompleted, `{"result":1}`) }

func (b *bench) token() string { return "token-" + strconv.FormatInt(b.n.Add(1), 10) }

func (b *bench) try(taskID string, drafts ...engine.Draft) ([]engine.EventID, error) {
	return b.Append(b.Context(), engine.Append{TaskID: taskID, Token: b.token(), Events: drafts})
}

func (b *bench) append(taskID string, drafts ...engine.Draft) []engine.EventID {
	b.Helper()
	ids, err := b.try(taskID, drafts...)
	if err != nil {
		b.Fatalf("Append: %v", err)
	}
	return ids
}

func (b *bench) get(taskID string) engine.Task {
	b.Helper()
	t, err := b.Get(b.Context(), taskID, engine.Fresh)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func (b *bench) read(taskID string, after engine.EventID, limit int) engine.Page {
	b.Helper()
	p, err := b.Read(b.Context(), taskID, after, limit)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}
