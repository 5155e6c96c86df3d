package rueidisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// wantRefused fails unless New fails with an error that says so.
func wantRefused(t *testing.T, cfg Config, words ...string) {
	t.Helper()
	start := time.Now()
	s, err := New(cfg)
	if err == nil {
		s.Close()
		t.Fatalf("New succeeded, want an error about %v", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("New gave %v, which does not say %q", err, w)
		}
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestStartRefused(t *testing.T) {
	at := func(s *redistest.Instance) Config {
		cfg := testConfig(t)
		cfg.Redis.InitAddress = []string{s.Addr()}
		return cfg
	}
	t.Run("nobody there", func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Redis.InitAddress = []string{"127.0.0.1:1"}
		wantRefused(t, cfg, "connect to 127.0.0.1:1", "refused")
	})
	t.Run("password", func(t *testing.T) {
		s := redistest.Server(t, redistest.Password("right"))
		wantRefused(t, at(s), "NOAUTH")
		cfg := at(s)
		cfg.Redis.Password = "wrong"
		wantRefused(t, cfg, "WRONGPASS")
	})
	t.Run("missing right", func(t *testing.T) {
		for name, want := range map[string]string{"-xrange": "xrange", "-evalsha -eval": "evalsha", "-zrem": "zrem", "-hgetall": "hgetall"} {
			s := redistest.Server(t, redistest.User("app", "on >pw ~* &* +@all "+name))
			cfg := at(s)
			cfg.Redis.Username, cfg.Redis.Password = "app", "pw"
			wantRefused(t, cfg, "NOPERM", want)
		}
		s := redistest.Server(t, redistest.User("app", "on >pw ~other:* &* +@all"))
		cfg := at(s)
		cfg.Redis.Username, cfg.Redis.Password = "app", "pw"
		wantRefused(t, cfg, "NOPERM", "key")
	})
	t.Run("replica", func(t *testing.T) {
		primary := redistest.Server(t)
		host, port, _ := strings.Cut(primary.Addr(), ":")
		wantRefused(t, at(redistest.Server(t, redistest.Config("replicaof "+host+" "+port))), "replica")
	})
	t.Run("schema", func(t *testing.T) {
		s := redistest.Server(t)
		cfg := at(s)
		s.Must("SET", cfg.Prefix+":schema", "2")
		wantRefused(t, cfg, "schema version", `"2"`, cfg.Prefix)
	})
	t.Run("out of memory", func(t *testing.T) {
		wantRefused(t, at(redistest.Server(t, redistest.MaxMemory("1", "noeviction"))), "OOM")
	})
	t.Run("no WAITAOF", func(t *testing.T) {
		cfg := at(redistest.Server(t))
		cfg.Wait.Fsync = true
		wantRefused(t, cfg, "Config.Wait.Fsync")
	})
}

func TestCheckInfo(t *testing.T) {
	b := open(t, testConfig(t))
	for version, want := range map[string]string{
		"6.0.16": "too old", "5.0.7": "too old", "6.2.0": "", "7.0.15": "", "10.1.0": "", "": "", "x": "",
	} {
		err := b.checkInfo(map[string]string{"redis_version": version})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

// A start leaves nothing but what the next one needs.
func TestRehearsalLeavesNothing(t *testing.T) {
	b := open(t, testConfig(t))
	for _, key := range b.everyKey() {
		if key != b.keys.schema() && key != b.keys.secret() && !strings.HasSuffix(key, ":lease") {
			t.Errorf("%s is there", key)
		}
	}
}

// Every verb is bounded in time, whatever the caller's patience.
func TestHungServer(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	cfg.CommandTimeout = time.Second // New goes through everything once, on a busy machine too
	s := MustNew(t, cfg)
	defer s.Close()
	task, _, err := s.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r", Status: engine.StatusAccepted})
	if err != nil {
		t.Fatal(err)
	}
	server.Pause()
	defer server.Resume()
	verbs := map[string]func() error{
		"Create": func() error {
			_, _, err := s.Create(context.Background(), engine.Task{Owner: "o", ClientRequestID: "x"})
			return err
		},
		"Get":    func() error { _, err := s.Get(context.Background(), task.ID, engine.Fresh); return err },
		"Cached": func() error { _, err := s.Get(context.Background(), task.ID, engine.Cached); return err },
		"Append": func() error {
			_, err := s.Append(context.Background(), engine.Append{TaskID: task.ID, Token: "t", Events: []engine.Draft{message("m")}})
			return err
		},
		"Read":          func() error { _, err := s.Read(context.Background(), task.ID, engine.EventID{}, 1); return err },
		"RequestCancel": func() error { _, err := s.RequestCancel(context.Background(), task.ID, "r"); return err },
		"Erase":         func() error { return s.Erase(context.Background(), task.ID) },
		"Lookup":        func() error { _, err := s.Lookup(context.Background(), "o", "r"); return err },
		"Ready": func() (err error) { // tells what came of the last small write
			for err == nil {
				err = s.Ready(context.Background())
			}
			return err
		},
	}
	var all sync.WaitGroup
	for name, verb := range verbs {
		all.Go(func() {
			start := time.Now()
			err := verb()
			if took := time.Since(start); took > 8*time.Second { // the client's own default is 10
				t.Errorf("%s took %v", name, took)
			}
			if err == nil || name != "Ready" && engine.CodeOf(err) != engine.CodeStoreUnavailable {
				t.Errorf("%s gave %v", name, err)
			}
		})
	}
	all.Wait()
}

// A caller's own deadline counts if it is earlier; its values pass through.
func TestBound(t *testing.T) {
	s := &Store{deadlines: deadlines{timeout: time.Minute}}
	type key struct{}
	ctx, done := s.bound(context.WithValue(t.Context(), key{}, "v"))
	defer done()
	at, ok := ctx.Deadline()
	if left := time.Until(at); !ok || left < 59*time.Second || left > 68*time.Second || ctx.Value(key{}) != "v" {
		t.Errorf("deadline in %v, value %v", left, ctx.Value(key{}))
	}
	early, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	ctx, done = s.bound(early)
	defer done()
	if at, _ := ctx.Deadline(); time.Until(at) > time.Second {
		t.Error("the caller's deadline does not count")
	}
	cancel()
	ctx, done = s.bound(early)
	defer done()
	if ctx.Err() == nil {
		t.Error("a context that has ended begins a command")
	}
	if shared := s.deadlines.next(); shared != s.deadlines.next() {
		t.Error("commands do not share a deadline")
	}
	short := deadlines{timeout: time.Millisecond}
	first := short.next()
	eventually(t, "a new deadline", func() bool { return short.next() != first })
	<-first.Done()
}

func TestWait(t *testing.T) {
	t.Parallel()
	primary := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{primary.Addr()}
	cfg.Wait = WaitConfig{Replicas: 1, Timeout: 200 * time.Millisecond}
	b := open(t, cfg)
	task := b.create()
	b.append(task.ID, message("does not wait"))
	end := engine.Append{TaskID: task.ID, Token: "end", Events: []engine.Draft{completed()}}
	for range 2 { // a repeat waits too, though it writes nothing
		_, err := b.Append(t.Context(), end)
		b.wantCode("an end that no replica has", err, engine.CodeStoreUnavailable)
		if err == nil || !strings.Contains(err.Error(), "0 of 1 replicas") {
			t.Errorf("the cause is %v", err)
		}
	}
	host, port, _ := strings.Cut(primary.Addr(), ":")
	replica := redistest.Server(t, redistest.Config("replicaof "+host+" "+port))
	eventually(t, "the replica is there", func() bool {
		info, err := replica.Info("replication")
		return err == nil && info["master_link_status"] == "up"
	})
	// Its first word may take a second; a caller that repeats gets there.
	var ids []engine.EventID
	var err error
	eventually(t, "the repeat is confirmed", func() bool {
		ids, err = b.Append(t.Context(), end)
		return err == nil
	})
	if ids[0].Ordinal != 2 {
		t.Fatalf("with a replica: %v", ids)
	}
	if n, _ := replica.Must("EXISTS", b.keys.log(task.ID)).(int64); n != 1 {
		t.Error("the replica does not have it")
	}
	_, err = b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: "late", Events: []engine.Draft{completed()}})
	b.wantCode("a second end", err, engine.CodeTaskAlreadyTerminal)
	primary.Must("SCRIPT", "FLUSH")
	b.append(b.create().ID, completed())

	// A replica that hangs: the repeat comes by another connection, which has
	// written nothing that it could wait for.
	hanging := engine.Append{TaskID: b.create().ID, Token: "end", Events: []engine.Draft{completed()}}
	replica.Pause()
	_, err = b.Append(t.Context(), hanging)
	b.wantCode("an end that the replica does not have", err, engine.CodeStoreUnavailable)
	primary.Must("CLIENT", "KILL", "TYPE", "normal")
	for range 3 { // the first may meet the cut connection
		_, err = b.Append(t.Context(), hanging)
		b.wantCode("the repeat", err, engine.CodeStoreUnavailable)
	}
	replica.Resume()
	eventually(t, "the repeat is confirmed", func() bool {
		_, err = b.Append(t.Context(), hanging)
		return err == nil
	})
}

// A start is given up at once when its context ends, whatever Redis does.
func TestStartGivenUp(t *testing.T) {
	t.Parallel()
	given := errors.New("given up")
	for name, prepare := range map[string]func(t *testing.T, cfg *Config){
		"a server that hangs": func(t *testing.T, cfg *Config) {
			server := redistest.Server(t)
			server.Pause()
			t.Cleanup(server.Resume)
			cfg.Redis.InitAddress = []string{server.Addr()}
		},
		"one of Sentinels that hang": func(t *testing.T, cfg *Config) {
			server := redistest.Server(t)
			server.Pause()
			t.Cleanup(server.Resume)
			cfg.Redis.InitAddress = []string{server.Addr()}
			cfg.Redis.Sentinel.MasterSet = "main"
		},
		"a dial that hangs": func(_ *testing.T, cfg *Config) {
			cfg.Redis.DialCtxFn = func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			cfg.CommandTimeout = time.Hour
			prepare(t, &cfg)
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := NewContext(ctx, cfg)
				done <- err
			}()
			select {
			case err := <-done:
				t.Fatalf("NewContext gave %v", err)
			case <-time.After(100 * time.Millisecond): // it waits, or is about to
			}
			cancel(given)
			select {
			case err := <-done:
				if !errors.Is(err, given) {
					t.Errorf("NewContext gave %v", err)
				}
			case <-time.After(patience):
				t.Error("NewContext goes on")
			}
		})
	}
	// Afterwards the context is of no concern.
	ctx, cancel := context.WithCancel(t.Context())
	s, err := NewContext(ctx, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if _, _, err := s.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r", Status: engine.StatusAccepted}); err != nil {
		t.Error(err)
	}
}
