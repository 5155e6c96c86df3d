//go:build unix

package rueidisstore

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// A task that waits for an answer while its server is demoted behind a proxy gets
// it, given on another host, from the new one; and a task can be created at once.
func TestFaultPromotionBehindProxyWhileTasksWait(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Pair(t)
	proxy := redistest.NewWire(t, primary.Addr())
	cfg := testConfig(t)
	cfg.Redis = rueidis.ClientOption{InitAddress: []string{proxy.Addr()}}
	var b *bench
	var hosts []*engine.Engine
	for range 2 {
		b = open(t, cfg)
		x, err := localexec.New(localexec.Config{}, localexec.Handle("ask", ask))
		if err != nil {
			t.Fatal(err)
		}
		eng, err := engine.New(engine.Config{
			Store: b.Store, Executor: x, Ownership: engine.OwnerOnly(), Lease: engine.LeaseConfig{TTL: processTTL}, Logger: cfg.Logger,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := eng.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		hosts = append(hosts, eng)
	}
	ann := engine.AuthContext{Subject: "ann"}
	create := func(on *engine.Engine, request string) (id string) {
		eventually(t, "a create", func() bool {
			res, err := on.Create(t.Context(), ann, engine.CreateRequest{ClientRequestID: request, TaskType: "ask", Input: json.RawMessage(`{}`)})
			if err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable {
				t.Fatalf("Create: %v", err)
			}
			id = res.Task.ID
			return err == nil
		})
		return id
	}
	// get is b.get while Redis may be away for a moment.
	get := func(id string) (task engine.Task) {
		eventually(t, "a record", func() (ok bool) {
			var err error
			task, err = b.Get(t.Context(), id, engine.Fresh)
			return err == nil
		})
		return task
	}
	waits := func(id string) func() bool { return func() bool { return len(get(id).Suspensions) == 1 } }
	before := create(hosts[0], "before")
	eventually(t, "the question", waits(before))

	primary.HandOver(replica)
	primary.Must("REPLICAOF", "127.0.0.1", "1") // nobody there: it gets no news
	proxy.Redirect(replica.Addr())

	after := create(hosts[0], "after")
	eventually(t, "the question of a task created since", waits(after))
	for _, id := range []string{before, after} {
		eventually(t, "an answer is accepted", func() bool {
			res, err := hosts[1].Act(t.Context(), ann, engine.ActionRequest{TaskID: id, SuspendID: "s", ActionType: "approve", ClientActionID: "c"})
			if err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable {
				t.Fatalf("Act: %v", err)
			}
			return err == nil && res.Status != ""
		})
		eventually(t, "the end", func() bool { return get(id).Status.Terminal() })
		if got, want := story(b, id), "STARTED MESSAGE(asking) SUSPENDED ACTION_ACCEPTED MESSAGE(answered approve c) COMPLETED"; got != want {
			t.Errorf("the log is %s, want %s", got, want)
		}
	}
}
