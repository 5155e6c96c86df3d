package rueidisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/sidebyside"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// redisAddr is a server that tests share, each with a prefix of its own.
var redisAddr string

func TestMain(m *testing.M) {
	// Servers start, leases run out and failovers take their time whoever else
	// waits.
	sidebyside.Tests(min(4*runtime.GOMAXPROCS(0), 16))
	before := &beforeTests{}
	redisAddr = redistest.Server(before).Addr()
	code := m.Run()
	before.end()
	if code == 0 {
		if err := leaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// leaks waits until every goroutine has ended, or tells which have not.
func leaks() error {
	deadline := time.Now().Add(patience)
	for {
		// rueidis closes the connections to nodes that left a Cluster 5 s later,
		// and may be about to look at its topology for 1 s.
		err := goleak.Find(
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// beforeTests is the testing.TB of what is started before there is a test.
type beforeTests struct {
	testing.TB // nil: what is not below is not asked for
	cleanups   []func()
}

func (*beforeTests) Helper()            {}
func (*beforeTests) Failed() bool       { return false }
func (b *beforeTests) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }

func (b *beforeTests) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"before the tests:"}, args...)...)
	b.end()
	os.Exit(1)
}

func (b *beforeTests) Fatalf(format string, args ...any) { b.Fatal(fmt.Sprintf(format, args...)) }

func (b *beforeTests) TempDir() string {
	dir, err := os.MkdirTemp("", "rueidisstore")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (b *beforeTests) end() {
	for _, f := range slices.Backward(b.cleanups) {
		f()
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
		Logger: slog.New(slog.NewTextHandler(LastLines(tb), nil)),
	}
}

func open(tb testing.TB, cfg Config) *bench {
	tb.Helper()
	s := MustNew(tb, cfg)
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

// MustNew is New, repeated while the server has no time: everything that it tries
// has to be through in CommandTimeout each.
func MustNew(tb testing.TB, cfg Config) *Store {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; {
		s, err := New(cfg)
		if err == nil {
			return s
		}
		if passing := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded); !passing || time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
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

// patience bounds every wait for something that must happen, on a machine that
// has much else to do.
const patience = 2 * time.Minute

func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}
