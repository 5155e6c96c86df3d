package enginetest

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// StoreOptions says what a suite needs to know of a store, beyond how to open
// it. Every field may be left out; what it is for is then not tested.
type StoreOptions struct {
	// Peer opens another node on the same data as store. Without it the store
	// is its own peer.
	Peer func(t *testing.T, store engine.Store) engine.Store
	// OpenShort opens a store whose logs keep at least, and roughly, the
	// newest keep events.
	OpenShort func(t *testing.T) (store engine.Store, keep int)
	// OpenExpiring opens a store that drops a log well within 5 seconds of its
	// terminal event, and the record after it, again within 5 seconds.
	OpenExpiring func(t *testing.T) engine.Store
}

// TestStore holds a store against the contracts of engine.Store and of the
// optional powers that it has. open returns an empty store; what it holds is
// given back with t.Cleanup.
func TestStore(t *testing.T, open func(t *testing.T) engine.Store, opts StoreOptions) {
	run := func(name string, waits bool, test func(f *fixture)) {
		t.Run(name, func(t *testing.T) {
			if waits {
				t.Parallel()
			}
			f := &fixture{T: t, store: open(t)}
			f.peer = f.store
			if opts.Peer != nil {
				f.peer = opts.Peer(t, f.store)
			}
			test(f)
		})
	}
	group := func(name string, tests []storeTest) {
		for _, c := range tests {
			run(name+"/"+c.name, c.waits, c.test)
		}
	}
	group("Registry", registryTests)
	group("Append", appendTests)
	group("Record", recordTests)
	group("Read", readTests)
	group("Follow", followTests)
	probe := open(t)
	if _, ok := probe.(engine.Signals); ok {
		group("Signals", signalTests)
	}
	if _, ok := probe.(engine.ActionStore); ok {
		group("Actions", actionTests)
	}
	if _, ok := probe.(engine.Leases); ok {
		group("Leases", leaseTests)
	}
	if _, ok := probe.(engine.Checkpoints); ok {
		group("Checkpoints", checkpointTests)
	}
	if _, ok := probe.(engine.Revocations); ok {
		group("Revocations", revocationTests)
	}
	if _, ok := probe.(engine.AttachmentStore); ok {
		group("Attachments", attachmentTests)
	}
	if _, ok := probe.(engine.ReadinessProbe); ok {
		run("Ready", false, testReady)
	}
	if _, ok := probe.(io.Closer); ok {
		run("Close", false, testClose)
	}
	if opts.OpenShort != nil {
		t.Run("Trimming", func(t *testing.T) { testTrimming(t, opts.OpenShort) })
	}
	if opts.OpenExpiring != nil {
		t.Run("Expiry", func(t *testing.T) {
			t.Parallel() // it waits
			testExpiry(t, opts.OpenExpiring)
		})
	}
}

type storeTest struct {
	name string
	test func(f *fixture)
	// waits says that the test does little but let time go by.
	waits bool
}

// fixture is one subtest's store.
type fixture struct {
	*testing.T
	store, peer engine.Store
	tokens      atomic.Int64
	requests    atomic.Int64
	unlooked    atomic.Int64 // calls of Due that did not look at everything
}

func (f *fixture) ctx() context.Context { return f.Context() }

// draftTask is a task record before Create, with something in every field.
func (f *fixture) draftTask() engine.Task {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return engine.Task{
		Type: "greet", Owner: "ann", ClientRequestID: "request-" + strconv.FormatInt(f.requests.Add(1), 10),
		Fingerprint: "f00d", Input: []byte(`{"b":1, "a":"ü"}`), Metadata: []byte(`{"m":[1,2]}`),
		Attachments: []engine.Attachment{{Name: "a.txt", ContentType: "text/plain", Size: 3, SHA256: "abc", Ref: "none"}},
		Status:      engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
	}
}

func (f *fixture) create() engine.Task {
	f.Helper()
	task, created, err := f.store.Create(f.ctx(), f.draftTask())
	if err != nil || !created {
		f.Fatalf("Create: created %v, %v", created, err)
	}
	return task
}

func (f *fixture) token() string { return "token-" + strconv.FormatInt(f.tokens.Add(1), 10) }

// append adds drafts with a new token.
func (f *fixture) append(taskID string, drafts ...engine.Draft) []engine.EventID {
	f.Helper()
	ids, err := f.store.Append(f.ctx(), engine.Append{TaskID: taskID, Token: f.token(), Events: drafts})
	if err != nil {
		f.Fatalf("Append: %v", err)
	}
	if len(ids) != len(drafts) {
		f.Fatalf("Append gave %d ids for %d events", len(ids), len(drafts))
	}
	return ids
}

// messages appends n messages, one at a time, and returns their ids.
func (f *fixture) messages(taskID string, n int) []engine.EventID {
	f.Helper()
	var ids []engine.EventID
	for i := range n {
		ids = append(ids, f.append(taskID, message(fmt.Sprint("m", i)))...)
	}
	return ids
}

func (f *fixture) get(taskID string) engine.Task {
	f.Helper()
	task, err := f.store.Get(f.ctx(), taskID, engine.Fresh)
	if err != nil {
		f.Fatalf("Get: %v", err)
	}
	return task
}

// log reads everything that is retained.
func (f *fixture) log(taskID string) []engine.Event {
	f.Helper()
	return readAll(f.T, f.store, taskID)
}

func readAll(t *testing.T, store engine.Store, taskID string) []engine.Event {
	t.Helper()
	var all []engine.Event
	var cursor engine.EventID
	for {
		p, err := store.Read(t.Context(), taskID, cursor, 100)
		if err != nil {
			t.Fatalf("Read: %v", err)
		}
		all = append(all, p.Events...)
		if !p.More {
			return all
		}
		if len(p.Events) == 0 {
			t.Fatal("Read gave no event, and More")
		}
		cursor = p.Events[len(p.Events)-1].ID
	}
}

// wantCode fails unless err is an *engine.Error of this code.
func (f *fixture) wantCode(op string, err error, code engine.Code) {
	f.Helper()
	wantCode(f.T, op, err, code)
}

func wantCode(t *testing.T, op string, err error, code engine.Code) {
	t.Helper()
	if engine.CodeOf(err) != code {
		t.Errorf("%s gave %v, want %s", op, err, code)
	}
}

var taskIDForm = regexp.MustCompile(`^[a-z0-9]{16,64}$`)

func draft(t engine.EventType, payload string) engine.Draft {
	return engine.Draft{Type: t, CreatedAt: time.Now().UTC().Truncate(time.Microsecond), Payload: []byte(payload)}
}

func started() engine.Draft            { return draft(engine.TypeStarted, `{}`) }
func message(text string) engine.Draft { return draft(engine.TypeMessage, `{"message":"`+text+`"}`) }
func completed() engine.Draft          { return draft(engine.TypeCompleted, `{"result":{"ok":true}}`) }

func failure(code string) engine.Draft {
	return draft(engine.TypeFailed, `{"code":"`+code+`","message":"no","retryable":false}`)
}

func cancelled() engine.Draft { return draft(engine.TypeCancelled, `{"reason":"r"}`) }

func suspended(id string) engine.Draft {
	return draft(engine.TypeSuspended, `{"suspendId":"`+id+`","kind":"USER_ACTION_REQUIRED","reasonCode":"R",`+
		`"allowedActions":["approve","reject"],"schemaVersion":2,"expiresAt":"2100-01-02T03:04:05.678Z","uiHints":{"k":[1]}}`)
}

func accepted(id string) engine.Draft {
	return draft(engine.TypeActionAccepted, `{"suspendId":"`+id+`","clientActionId":"c","actionType":"approve","acceptedAt":"2026-01-02T03:04:05Z"}`)
}

// patience bounds every wait for something that must happen, on a machine that
// has much else to do.
const patience = 2 * time.Minute

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

// starter holds goroutines back and lets them go in the same instant: they
// spin, since waking from a channel takes longer than what they are to race for.
type starter struct{ gone atomic.Bool }

func (s *starter) wait() {
	for !s.gone.Load() {
		runtime.Gosched()
	}
}

func (s *starter) start() { s.gone.Store(true) }

// sameEvents compares two parts of a log, times to the microsecond.
func sameEvents(t *testing.T, what string, got, want []engine.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d events, want %d", what, len(got), len(want))
	}
	for i := range got {
		sameEvent(t, fmt.Sprintf("%s, event %d", what, i+1), got[i], want[i])
	}
}

func sameEvent(t *testing.T, what string, got, want engine.Event) {
	t.Helper()
	if string(got.AppendJSON(nil)) != string(want.AppendJSON(nil)) {
		t.Fatalf("%s is\n%s, want\n%s", what, got.AppendJSON(nil), want.AppendJSON(nil))
	}
}

// asEvents is what a log holds after drafts got these ids.
func asEvents(taskID string, ids []engine.EventID, drafts []engine.Draft) []engine.Event {
	events := make([]engine.Event, len(drafts))
	for i, d := range drafts {
		events[i] = engine.Event{ID: ids[i], TaskID: taskID, Type: d.Type, CreatedAt: d.CreatedAt, Payload: d.Payload}
	}
	return events
}

// checkDense fails unless ordinals run from first without a hole and the
// milliseconds never go back.
func checkDense(t *testing.T, events []engine.Event, first uint64) {
	t.Helper()
	for i, ev := range events {
		if ev.ID.Ordinal != first+uint64(i) {
			t.Fatalf("event %d has ordinal %d, want %d", i, ev.ID.Ordinal, first+uint64(i))
		}
		if i > 0 && ev.ID.Millis < events[i-1].ID.Millis {
			t.Fatalf("the milliseconds go back at %s", ev.ID)
		}
		if ev.Type.Terminal() && i != len(events)-1 {
			t.Fatalf("%d events after the terminal one", len(events)-1-i)
		}
	}
}
