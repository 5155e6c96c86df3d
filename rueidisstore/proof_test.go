package rueidisstore

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// setsOf is how often SET was called on a server, by scripts too.
func setsOf(t *testing.T, s *redistest.Instance) string {
	t.Helper()
	info, err := s.Info("commandstats")
	if err != nil {
		t.Fatal(err)
	}
	calls, _, _ := strings.Cut(strings.TrimPrefix(info["cmdstat_set"], "calls="), ",")
	return calls
}

// However many ask whether the store is ready, Redis is not asked more often.
func TestReadyIsAnsweredFromTheLastProof(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	cfg.ProbeInterval = time.Hour
	s := MustNew(t, cfg)
	defer s.Close()
	before := setsOf(t, server)
	var askers sync.WaitGroup
	for range 50 {
		askers.Go(func() {
			for range 20 {
				if err := s.Ready(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	askers.Wait()
	if after := setsOf(t, server); after != before {
		t.Errorf("SET was called %s times before and %s after", before, after)
	}
}

// What Ready says, and that the log says it once for each change.
func TestReadyTellsWhetherRedisTakesWrites(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	cfg.ProbeInterval = 10 * time.Millisecond
	var log logged
	log.into(&cfg)
	s := MustNew(t, cfg)
	defer s.Close()
	await := func(want string) {
		t.Helper()
		var err error
		eventually(t, "ready: "+want, func() bool {
			if err = s.Ready(context.Background()); err == nil {
				return want == ""
			}
			return want != "" && engine.CodeOf(err) == engine.CodeStoreUnavailable && strings.Contains(err.Error(), want)
		})
	}
	for want, change := range map[string][2]func(){
		"redis is full": {func() { fill(server) }, func() { drain(server) }},
		"replica": {
			func() { server.Must("REPLICAOF", "127.0.0.1", "1") },
			func() { server.Must("REPLICAOF", "NO", "ONE") },
		},
		"takes no writes": {
			func() { server.Must("CONFIG", "SET", "min-replicas-to-write", "1") },
			func() { server.Must("CONFIG", "SET", "min-replicas-to-write", "0") },
		},
		"does not answer": {server.Kill, server.Start},
	} {
		downs := log.count("takes no writes")
		change[0]()
		await(want)
		for range 5 { // further proofs
			_, next, _ := s.proof.last(0)
			<-next
		}
		if n := log.count("takes no writes") - downs; n != 1 {
			t.Errorf("%s: the log says so %d times", want, n)
		}
		change[1]()
		await("")
	}
	if n := log.count("takes writes again"); n != 4 {
		t.Errorf("the log says %d times that it is over", n)
	}
}

// A server that takes no writes for long is asked again now and then, not as fast as
// it refuses.
func TestReconnectsArePaced(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	b := open(t, cfg)
	task := b.create()
	links := b.client.(*watched).links
	before := links.dialed.Load()
	server.Must("REPLICAOF", "127.0.0.1", "1")
	began := time.Now()
	var writers sync.WaitGroup
	for range 20 {
		writers.Go(func() {
			for time.Since(began) < 2*time.Second {
				if _, err := b.try(task.ID, message("m")); engine.CodeOf(err) != engine.CodeStoreUnavailable {
					t.Errorf("an append to a replica gave %v", err)
				}
			}
		})
	}
	writers.Wait()
	// 100 ms, 200, 400, 800, give or take a quarter; a slow machine makes it fewer.
	n := links.dialed.Load() - before
	if most := uint64(time.Since(began)/time.Second) + 6; n < 1 || n > most {
		t.Errorf("%d connections in %v, want 1 to %d", n, time.Since(began), most)
	}
	server.Must("REPLICAOF", "NO", "ONE")
	eventually(t, "appends go on", func() bool { _, err := b.try(task.ID, message("m")); return err == nil })
}
