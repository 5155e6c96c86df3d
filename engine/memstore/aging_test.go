package memstore

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// after lets d pass and the store's maintenance do its work.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{})
		files, err := NewDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		b.files = files
		a, err := b.Put(t.Context(), "a", "", strings.NewReader("data"))
		if err != nil {
			t.Fatal(err)
		}
		task, _, err := b.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r", Attachments: []engine.Attachment{a}})
		if err != nil {
			t.Fatal(err)
		}
		after(3 * 24 * time.Hour) // it counts from the end
		b.message(task.ID, 1000)
		end := engine.Append{TaskID: task.ID, Token: "end", Events: []engine.Draft{{Type: engine.TypeCompleted, Payload: []byte(`{"result":1}`)}}}
		ids, err := b.Append(t.Context(), end)
		if err != nil {
			t.Fatal(err)
		}
		c, stop := b.follow(task.ID)
		defer stop()

		after(24*time.Hour - time.Minute)
		if p := b.read(task.ID); p.Expired || len(p.Events) != 2 {
			t.Errorf("a minute before its time: %+v", p)
		}
		before := b.usage.bytes.Load()
		after(2 * time.Minute)
		if p := b.read(task.ID); !p.Expired || len(p.Events) != 0 {
			t.Errorf("a minute after its time: %+v", p)
		}
		if freed := before - b.usage.bytes.Load(); freed < 1000 {
			t.Errorf("the expiry gave %d bytes back", freed)
		}
		if got, err := b.Get(t.Context(), task.ID, engine.Fresh); err != nil || got.Terminal == nil || got.Terminal.ID != ids[0] {
			t.Errorf("the record has %v, %v", got.Terminal, err)
		}
		if again, err := b.Append(t.Context(), end); err != nil || again[0] != ids[0] {
			t.Errorf("a repeat of the end gave %v, %v", again, err)
		}
		if c.lost.Load() != 0 {
			t.Error("who had followed to the end lost something by the expiry")
		}

		after(24*time.Hour - 3*time.Minute)
		if !b.known(task.ID) {
			t.Error("the record went too soon")
		}
		after(3 * time.Minute)
		if b.known(task.ID) {
			t.Error("the record stays")
		}
		if r, err := b.Open(t.Context(), a); err == nil {
			_ = r.Close()
			t.Error("its attachment stays")
		}
		b.wantEmpty()
	})
}

// What makes appends repeatable is kept as long as what they stored, and that of
// the end as long as the record.
func TestTokensAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{})
		defer b.Close()
		for _, appends := range []int{1, keptTokens - 1, keptTokens, 3*keptTokens + 5} {
			id := b.create().ID
			of := func(n int) engine.Append {
				a := engine.Append{TaskID: id, Token: strings.Repeat("x", 1000) + strconv.Itoa(n), Events: []engine.Draft{{Type: engine.TypeProgress, Payload: []byte(`{"progress":1}`)}}}
				if n == appends {
					a.Events[0] = engine.Draft{Type: engine.TypeCompleted, Payload: []byte(`{"result":1}`)}
				}
				return a
			}
			var end []engine.EventID
			for n := range appends + 1 {
				var err error
				if end, err = b.Append(t.Context(), of(n)); err != nil {
					t.Fatal(err)
				}
			}
			after(23 * time.Hour)
			if _, err := b.Append(t.Context(), of(appends-1)); err != nil {
				t.Errorf("%d appends: a repeat while the log is there: %v", appends, err)
			}
			after(2 * time.Hour)
			if used := b.usage.bytes.Load(); used > 4000 {
				t.Errorf("%d appends: %d bytes are used without the log", appends, used)
			}
			if again, err := b.Append(t.Context(), of(appends)); err != nil || again[0] != end[0] {
				t.Errorf("%d appends: a repeat of the end gave %v, %v", appends, again, err)
			}
			if _, err := b.Append(t.Context(), of(appends-1)); engine.CodeOf(err) != engine.CodeTaskAlreadyTerminal {
				t.Errorf("%d appends: a repeat of another gave %v", appends, err)
			}
			after(24 * time.Hour)
			b.wantEmpty()
		}
	})
}

func TestMaxOpenAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{MaxOpenAge: time.Hour})
		idle, busy, asking, endless := b.create().ID, b.create().ID, b.create().ID, b.create().ID
		until := time.Now().Add(3 * time.Hour).Format(time.RFC3339)
		b.emit(asking, engine.TypeSuspended, `{"suspendId":"s","expiresAt":"`+until+`"}`)
		b.emit(endless, engine.TypeSuspended, `{"suspendId":"s"}`)
		c, stop := b.follow(idle)
		defer stop()
		open := func(id string) bool {
			task, err := b.Get(t.Context(), id, engine.Fresh)
			if err != nil {
				t.Fatal(err)
			}
			return !task.Status.Terminal()
		}
		for range 59 {
			after(time.Minute)
			b.message(busy, 1)
		}
		if !open(idle) || !open(busy) {
			t.Error("a task was ended too soon")
		}
		after(2 * time.Minute)
		if open(idle) || open(busy) || open(endless) {
			t.Error("a task is open for ever")
		}
		if !open(asking) {
			t.Error("it was ended while somebody may still answer")
		}
		if c.pushed.Load() != 1 {
			t.Errorf("its follower got %d events", c.pushed.Load())
		}
		ev := b.read(idle).Events[0]
		if _, err := engine.CheckPayload(ev.Type, ev.Payload); err != nil || ev.Type != engine.TypeFailed ||
			!strings.Contains(string(ev.Payload), `"code":"TASK_EXPIRED"`) || !strings.Contains(string(ev.Payload), `"retryable":true`) {
			t.Errorf("it was ended with %s %s, %v", ev.Type, ev.Payload, err)
		}
		if !ev.CreatedAt.Equal(ev.CreatedAt.Truncate(time.Microsecond)) || ev.CreatedAt.Location() != time.UTC {
			t.Errorf("createdAt is %v", ev.CreatedAt)
		}
		after(2 * time.Hour)
		if open(asking) {
			t.Error("a task is open after its suspension has expired")
		}
	})
}

// Short lives are looked at often enough.
func TestDefaultCleanupInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{StreamTTL: time.Second})
		id := b.create().ID
		b.finish(id)
		after(1500 * time.Millisecond)
		if !b.read(id).Expired {
			t.Error("not expired after one and a half times its life")
		}
	})
}

func TestClockGoesBack(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := &bench{TB: t, Store: newStore(Config{}, func() time.Time { return now })}
	defer b.Close()
	task, _, err := b.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r", CreatedAt: now, UpdatedAt: now})
	if err != nil {
		t.Fatal(err)
	}
	first := b.emit(task.ID, engine.TypeStarted, `{}`)
	var ids []engine.EventID
	for _, back := range []time.Duration{time.Hour, 100 * 365 * 24 * time.Hour, -time.Second} { // the second is before 1970
		now = now.Add(-back)
		ids = append(ids, b.message(task.ID, 1))
		b.emit(task.ID, engine.TypeSuspended, `{"suspendId":"s"}`)
		if got, _ := b.Get(t.Context(), task.ID, engine.Fresh); got.UpdatedAt.Before(task.UpdatedAt) {
			t.Errorf("UpdatedAt went back to %v", got.UpdatedAt)
		}
	}
	for _, id := range ids {
		if id.Millis != first.Millis {
			t.Errorf("the milliseconds went from %s to %s", first, id)
		}
	}
	b.sweep() // nothing is old
	if !b.known(task.ID) || len(b.read(task.ID).Events) != 7 {
		t.Error("the clock took something away")
	}
	now = time.Unix(-5, 0)
	old := b.create()
	if id := b.message(old.ID, 1); id.Millis != 0 || id.Ordinal != 1 {
		t.Errorf("before 1970 the id is %s", id)
	}
}
