package rueidisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// suspension is a TASK_SUSPENDED that allows approve and reject.
func suspension(id string, expires time.Time) engine.Draft {
	at := ""
	if !expires.IsZero() {
		at = `,"expiresAt":"` + expires.UTC().Format(time.RFC3339Nano) + `"`
	}
	return draft(engine.TypeSuspended, `{"suspendId":"`+id+`","kind":"USER_ACTION_REQUIRED","reasonCode":"R",`+
		`"allowedActions":["approve","reject"],"schemaVersion":1`+at+`}`)
}

// answer is an answer of ann's to a suspension.
func answer(taskID, suspendID, id string) engine.Resolution {
	return engine.Resolution{
		TaskID: taskID, SuspendID: suspendID, Fingerprint: suspendID + "/" + id,
		Action: &engine.Action{
			ClientActionID: id, SuspendID: suspendID, ActionType: "approve", Payload: json.RawMessage(`{ "note" : "<ü>" }`),
			Actor: "ann", AcceptedAt: toMicros(time.Now()),
		},
		Event: draft(engine.TypeActionAccepted, `{"suspendId":"`+suspendID+`","clientActionId":"`+id+`","actionType":"approve","acceptedAt":"2026-01-02T03:04:05Z"}`),
	}
}

// expiry is an expiry that fails the task.
func expiry(taskID, suspendID string) engine.Resolution {
	return engine.Resolution{
		TaskID: taskID, SuspendID: suspendID, Expiry: true,
		Event: draft(engine.TypeFailed, `{"code":"SUSPENSION_EXPIRED","message":"nobody answered","retryable":false}`),
	}
}

func (b *bench) resolve(r engine.Resolution) engine.Verdict {
	b.Helper()
	v, err := b.Resolve(b.Context(), r)
	if err != nil {
		b.Fatalf("Resolve: %v", err)
	}
	return v
}

func (b *bench) wantVerdict(what string, r engine.Resolution, want engine.Verdict) {
	b.Helper()
	if got := b.resolve(r); got != want {
		b.Errorf("%s: the verdict is %d, want %d", what, got, want)
	}
}

func (b *bench) suspension(taskID, suspendID string) engine.Suspension {
	b.Helper()
	s, err := b.Suspension(b.Context(), taskID, suspendID)
	if err != nil {
		b.Fatalf("Suspension: %v", err)
	}
	return s
}

// dues are the ids of the suspensions that Due gives now. A busy server may not
// answer in the time that Due has; what it gave all the same counts.
func (b *bench) dues() map[string]engine.DueSuspension {
	b.Helper()
	found := map[string]engine.DueSuspension{}
	for deadline := time.Now().Add(patience); ; {
		list, err := b.Due(b.Context(), 100)
		for _, d := range list {
			found[d.TaskID+"/"+d.SuspendID] = d
		}
		if err == nil {
			return found
		}
		if engine.CodeOf(err) != engine.CodeStoreUnavailable || time.Now().After(deadline) {
			b.Fatalf("Due: %v", err)
		}
	}
}

// awaitDue waits until Due gives a suspension.
func (b *bench) awaitDue(taskID, suspendID string) engine.DueSuspension {
	b.Helper()
	var found engine.DueSuspension
	eventually(b.TB, suspendID+" is due", func() bool {
		d, ok := b.dues()[taskID+"/"+suspendID]
		found = d
		return ok
	})
	return found
}

// actsPlace is how long it takes until Due is going to look at the task; ok is
// false if it is not in the index.
func (b *bench) actsPlace(taskID string) (in time.Duration, ok bool) {
	b.Helper()
	score, err := b.do("ZSCORE", b.keys.actions(shardOf(taskID)), taskID).ToFloat64()
	return time.Until(time.UnixMilli(int64(score))), err == nil
}

// An answer whose own answer was lost is found to be there when it is repeated.
func TestResolveAnswerLost(t *testing.T) {
	server := redistest.Server(t)
	wire := redistest.NewWire(t, server.Addr())
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{wire.Addr()}
	b := open(t, cfg)
	cfg.Redis.InitAddress = []string{server.Addr()}
	direct := open(t, cfg)
	usual := func() time.Duration {
		task := direct.create()
		direct.append(task.ID, suspension("s", time.Time{}))
		begin := time.Now()
		b.wantVerdict("an answer that comes", answer(task.ID, "s", "c"), engine.VerdictAccepted)
		return time.Since(begin)
	}()
	repeated := 0
	deadline := time.Now().Add(patience)
	for n := 0; repeated < 3; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d answers were lost in %d tries", repeated, n)
		}
		task := direct.create()
		direct.append(task.ID, suspension("s", time.Time{}))
		r := answer(task.ID, "s", "c")
		first := make(chan error, 1)
		begin := time.Now()
		go func() {
			_, err := b.Resolve(t.Context(), r)
			first <- err
		}()
		// After its place in the index, and before its answer, if it comes so.
		time.Sleep(time.Duration(n%10) * usual / 8)
		muted := wire.Mute()
		for limit := time.Now().Add(time.Second); muted.Lost() == 0 && len(first) == 0 && time.Now().Before(limit); {
			time.Sleep(100 * time.Microsecond) // polls
		}
		muted.Cut()
		if err := <-first; err != nil {
			b.wantCode("Resolve without an answer", err, engine.CodeStoreUnavailable)
		} else {
			usual = min(usual, time.Since(begin))
			continue
		}
		var v engine.Verdict
		eventually(t, "the repeat", func() bool {
			var err error
			v, err = b.Resolve(t.Context(), r)
			return err == nil
		})
		switch v {
		case engine.VerdictAccepted:
		case engine.VerdictDeduplicated:
			repeated++
		default:
			t.Errorf("the repeat's verdict is %d", v)
		}
		if p := direct.read(task.ID, engine.EventID{}, 10); len(p.Events) != 2 {
			t.Errorf("%d events, want 2", len(p.Events))
		}
	}
}

// Of many answers over two nodes one is accepted.
func TestResolveRace(t *testing.T) {
	cfg := testConfig(t)
	nodes := []*bench{open(t, cfg), open(t, cfg)}
	for round := range 5 {
		task := nodes[0].create()
		nodes[0].append(task.ID, suspension("s", time.Now().Add(time.Hour)))
		const racers = 200
		verdicts := make([]engine.Verdict, racers)
		var start, done sync.WaitGroup
		start.Add(1)
		for i := range racers {
			done.Go(func() {
				start.Wait()
				v, err := nodes[i%2].Resolve(t.Context(), answer(task.ID, "s", "c"+strconv.Itoa(i)))
				if err != nil {
					t.Error(err)
				}
				verdicts[i] = v
			})
		}
		start.Done()
		done.Wait()
		count := map[engine.Verdict]int{}
		winner := ""
		for i, v := range verdicts {
			count[v]++
			if v == engine.VerdictAccepted {
				winner = "c" + strconv.Itoa(i)
			}
		}
		if count[engine.VerdictAccepted] != 1 || count[engine.VerdictResolved] != racers-1 {
			t.Fatalf("round %d: the verdicts are %v", round, count)
		}
		s := nodes[1].suspension(task.ID, "s")
		if s.Open || s.HandedOver || s.Answer == nil || s.Answer.ClientActionID != winner {
			t.Errorf("the suspension is %+v, the winner %s", s, winner)
		}
		if p := nodes[1].read(task.ID, engine.EventID{}, 10); len(p.Events) != 2 {
			t.Errorf("%d events, want 2", len(p.Events))
		}
	}
}

// What is stored comes back byte for byte.
func TestActionComesBack(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	opened := suspension("s", time.Now().Add(300*time.Millisecond))
	opened.Default = &engine.DefaultAction{ActionType: "reject", Payload: json.RawMessage(`{ "by":"<default>" }`)}
	b.append(task.ID, opened)
	s := b.suspension(task.ID, "s")
	if !s.Open || s.Default == nil || s.Default.ActionType != "reject" || string(s.Default.Payload) != `{ "by":"<default>" }` {
		t.Errorf("the open one is %+v, default %+v", s, s.Default)
	}
	if d := b.awaitDue(task.ID, "s"); d.Default == nil || !d.Open || d.ReasonCode != "R" {
		t.Errorf("the due one is %+v", d)
	}
	b.append(task.ID, suspension("t", time.Time{}))
	r := answer(task.ID, "t", "c")
	r.Action.Metadata = json.RawMessage(`{"m":1.50}`)
	b.wantVerdict("an answer", r, engine.VerdictAccepted)
	got := b.suspension(task.ID, "t").Answer
	if got == nil || string(got.Payload) != `{ "note" : "<ü>" }` || string(got.Metadata) != `{"m":1.50}` ||
		got.Actor != "ann" || got.ActionType != "approve" || got.SuspendID != "t" || !got.AcceptedAt.Equal(r.Action.AcceptedAt) {
		t.Errorf("the answer is %+v", got)
	}
}

// The server's clock decides, whatever a node's says: what an expiry or an answer
// brings along counts for nothing.
func TestExpiryByTheStoresClock(t *testing.T) {
	b := open(t, testConfig(t))
	now := func() time.Time {
		t.Helper()
		parts, err := b.do("TIME").AsStrSlice()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := strconv.ParseInt(parts[0], 10, 64)
		us, _ := strconv.ParseInt(parts[1], 10, 64)
		return time.Unix(s, us*1000)
	}
	task := b.create()
	end := now().Add(400 * time.Millisecond).Truncate(time.Millisecond) // as the store keeps it
	b.append(task.ID, suspension("s", end))
	late := expiry(task.ID, "s")
	late.Event.CreatedAt = time.Now().Add(time.Hour)
	early := answer(task.ID, "s", "c")
	early.Action.AcceptedAt = time.Now().Add(-time.Hour)
	for {
		before := now()
		v := b.resolve(late)
		after := now()
		if v == engine.VerdictAccepted {
			if after.Before(end) {
				t.Errorf("it expired %v early", end.Sub(after))
			}
			break
		}
		if v != engine.VerdictExpired || before.After(end.Add(time.Millisecond)) {
			t.Fatalf("%v after the end the verdict is %d", before.Sub(end), v)
		}
	}
	b.wantVerdict("an answer to what expired", early, engine.VerdictResolved) // the task is over
	if s := b.suspension(task.ID, "s"); s.Open || !s.Expired || s.Answer != nil {
		t.Errorf("it is %+v", s)
	}

	task = b.create()
	end = now().Add(100 * time.Millisecond)
	b.append(task.ID, suspension("s", end))
	eventually(t, "the end", func() bool { return now().After(end) })
	early.TaskID = task.ID
	b.wantVerdict("an answer after the end", early, engine.VerdictExpired)
}

// A second that was resolved under an id that is used again is another one.
func TestSuspendAgainUnderTheSameID(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	for n := range 3 {
		b.append(task.ID, suspension("s", time.Time{}))
		if s := b.suspension(task.ID, "s"); !s.Open || s.Answer != nil {
			t.Fatalf("round %d: it is %+v", n, s)
		}
		for old := range n { // late repeats of answers to the earlier ones
			b.wantVerdict("a late repeat", answer(task.ID, "s", fmt.Sprint("c", old)), engine.VerdictDeduplicated)
		}
		b.wantVerdict("an answer", answer(task.ID, "s", fmt.Sprint("c", n)), engine.VerdictAccepted)
	}
}

func TestMaxOpenSuspensions(t *testing.T) {
	cfg := testConfig(t)
	cfg.Actions.MaxOpen = 3
	b := open(t, cfg)
	task := b.create()
	b.append(task.ID, suspension("a", time.Time{}), suspension("b", time.Time{}))
	_, err := b.try(task.ID, suspension("c", time.Time{}), suspension("d", time.Time{}))
	b.wantCode("a fourth", err, engine.CodeInvalidTaskState)
	b.append(task.ID, suspension("c", time.Time{}))
	_, err = b.try(task.ID, suspension("d", time.Time{}))
	b.wantCode("a fourth", err, engine.CodeInvalidTaskState)
	if got := b.get(task.ID); len(got.Suspensions) != 3 {
		t.Errorf("%d are open", len(got.Suspensions))
	}
	b.wantVerdict("an answer", answer(task.ID, "a", "1"), engine.VerdictAccepted)
	b.append(task.ID, suspension("d", time.Time{}))
	b.append(task.ID, completed())
}

// The last ones that were resolved stay, and what nobody has yet.
func TestResolvedArePruned(t *testing.T) {
	cfg := testConfig(t)
	cfg.Actions.MaxResolved = 4
	b := open(t, cfg)
	task := b.create()
	const n = 20
	for i := range n {
		id := fmt.Sprint("s", i)
		b.append(task.ID, suspension(id, time.Time{}))
		if i == 9 {
			b.append(task.ID, draft(engine.TypeActionAccepted, `{"suspendId":"`+id+`"}`)) // closed by an event
			continue
		}
		b.wantVerdict(id, answer(task.ID, id, "c:"+id), engine.VerdictAccepted)
		if i != 7 {
			if err := b.HandedOver(t.Context(), task.ID, id, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range n {
		id := fmt.Sprint("s", i)
		_, err := b.Suspension(t.Context(), task.ID, id)
		if kept := i >= n-4 || i == 7; kept != (err == nil) {
			t.Errorf("%s: %v", id, err)
		} else if kept {
			b.wantVerdict("a repeat for "+id, answer(task.ID, id, "c:"+id), engine.VerdictDeduplicated)
		} else {
			b.wantCode(id, err, engine.CodeTaskNotFound)
			b.wantVerdict("a repeat for "+id, answer(task.ID, id, "c:"+id), engine.VerdictUnknown)
		}
	}
	if fields := b.int("HLEN", b.keys.acts(task.ID)); fields > 5*6+2 {
		t.Errorf("%d fields are left", fields)
	}
}

// What was passed over while nobody had its answer goes once somebody has.
func TestPassedOverArePruned(t *testing.T) {
	cfg := testConfig(t)
	cfg.Actions.MaxResolved = 2
	b := open(t, cfg)
	task := b.create()
	resolve := func(id string) {
		t.Helper()
		b.append(task.ID, suspension(id, time.Time{}))
		b.wantVerdict(id, answer(task.ID, id, "c:"+id), engine.VerdictAccepted)
	}
	known := func(id string) bool {
		t.Helper()
		_, err := b.Suspension(t.Context(), task.ID, id)
		if code := engine.CodeOf(err); code != "" && code != engine.CodeTaskNotFound {
			t.Fatal(err)
		}
		return err == nil
	}
	hand := func(id string) {
		t.Helper()
		if err := b.HandedOver(t.Context(), task.ID, id, 0); err != nil {
			t.Fatal(err)
		}
	}
	const n = 12
	for i := range n { // nobody takes any of them
		resolve(fmt.Sprint("s", i))
	}
	for i := range n {
		if !known(fmt.Sprint("s", i)) {
			t.Errorf("s%d was forgotten before anybody had its answer", i)
		}
	}
	for _, i := range []int{7, 0, 4} {
		hand(fmt.Sprint("s", i))
	}
	resolve("x")
	for i := range n {
		if gone := i == 7 || i == 0 || i == 4; known(fmt.Sprint("s", i)) == gone {
			t.Errorf("s%d is known: %v", i, !gone)
		}
	}
	// An id that is used again: the earlier one goes, the new one stays.
	hand("s5")
	b.append(task.ID, suspension("s5", time.Time{}))
	for i := range n {
		hand(fmt.Sprint("s", i))
	}
	hand("x")
	resolve("y")
	resolve("z")
	hand("y")
	hand("z")
	resolve("last")
	for id, want := range map[string]bool{"s5": true, "z": true, "last": true, "y": false, "x": false, "s1": false, "s11": false} {
		if known(id) != want {
			t.Errorf("%s is known: %v", id, !want)
		}
	}
	b.wantVerdict("the one of the used id", answer(task.ID, "s5", "again"), engine.VerdictAccepted)
	if passed, err := b.do("HGET", b.keys.acts(task.ID), "passed").ToString(); err != nil || passed != "" {
		t.Errorf("passed is %q, %v", passed, err)
	}
	fields, err := b.do("HKEYS", b.keys.acts(task.ID)).AsStrSlice()
	if err != nil || len(fields) > 2*6+2 { // of last and s5; oldest and passed
		t.Errorf("left are %v, %v", fields, err)
	}
}

// The acts of a task that is over may go before its record: every suspension is
// over with it then.
func TestActsExpireBeforeTheRecord(t *testing.T) {
	cfg := testConfig(t)
	cfg.Actions.TTL = 300 * time.Millisecond
	b := open(t, cfg)
	task, never := b.create(), b.create()
	b.append(task.ID, suspension("s", time.Time{}))
	b.wantVerdict("an answer", answer(task.ID, "s", "c"), engine.VerdictAccepted)
	// Without its acts, an open task is no task that is over.
	b.wantVerdict("of an open task", answer(task.ID, "t", "c"), engine.VerdictUnknown)
	b.append(task.ID, completed())
	b.append(never.ID, completed())
	eventually(t, "the acts expire", func() bool { return b.int("EXISTS", b.keys.acts(task.ID)) == 0 })
	for _, id := range []string{"s", "t"} {
		b.wantVerdict("after their time", answer(task.ID, id, "c"), engine.VerdictResolved)
	}
	b.wantVerdict("of a task that never suspended", answer(never.ID, "s", "c"), engine.VerdictUnknown)
	if b.int("EXISTS", b.keys.acts(task.ID)) != 0 {
		t.Error("an answer brought the acts back")
	}
}

func TestActsLiveAsLongAsTheirTask(t *testing.T) {
	cfg := testConfig(t)
	cfg.StreamTTL, cfg.RecordTTL, cfg.MaxOpenAge = time.Hour, 30*time.Minute, 10*time.Hour
	cfg.Actions.TTL = 20 * time.Minute
	b := open(t, cfg)
	ttl := func(key string) time.Duration { return time.Duration(b.int("PTTL", key)) * time.Millisecond }
	plain := b.create()
	b.append(plain.ID, draft(engine.TypeStarted, `{}`), message("m"), completed())
	if b.int("EXISTS", b.keys.acts(plain.ID)) != 0 {
		t.Error("a task that never suspended has acts")
	}
	ended, failed, erased := b.create(), b.create(), b.create()
	for _, task := range []engine.Task{ended, failed, erased} {
		b.append(task.ID, suspension("s", time.Now().Add(200*time.Millisecond)))
		// The record is asked second: it may have a little less left by then.
		if got, want := ttl(b.keys.acts(task.ID)), ttl(b.keys.task(task.ID)); got < want-time.Minute || got > want+time.Minute {
			t.Errorf("the acts live for %v, the record for %v", got, want)
		}
	}
	b.append(ended.ID, completed())
	b.awaitDue(failed.ID, "s")
	b.wantVerdict("the expiry", expiry(failed.ID, "s"), engine.VerdictAccepted)
	for _, task := range []engine.Task{ended, failed} {
		if got := ttl(b.keys.acts(task.ID)); got > 20*time.Minute || got < 19*time.Minute {
			t.Errorf("after the end the acts live for %v", got)
		}
		if s := b.suspension(task.ID, "s"); s.Open {
			t.Error("a suspension of a task that is over is open")
		}
	}
	if err := b.Erase(t.Context(), erased.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the index forgets them", func() bool {
		b.dues()
		for _, task := range []engine.Task{ended, failed, erased} {
			if _, ok := b.actsPlace(task.ID); ok {
				return false
			}
		}
		return true
	})
	for _, key := range b.everyKey() {
		if ttl(key) <= 0 {
			t.Errorf("%s never expires", key)
		}
		if strings.Contains(key, tagOf(erased.ID)) {
			t.Errorf("%s of an erased task is there", key)
		}
	}
	_, err := b.Suspension(t.Context(), erased.ID, "s")
	b.wantCode("a suspension of an erased task", err, engine.CodeTaskNotFound)
	_, err = b.Resolve(t.Context(), answer(erased.ID, "s", "c"))
	b.wantCode("an answer to an erased task", err, engine.CodeTaskNotFound)
}

// What waits for people is kept for as long as they have, and what they answered
// has a life after that.
func TestSuspendedBeyondMaxOpenAge(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxOpenAge = time.Hour
	b := open(t, cfg)
	task := b.create()
	b.append(task.ID, suspension("s", time.Now().Add(5*time.Hour)))
	for _, at := range []time.Duration{61 * time.Minute, 2 * time.Hour, 4 * time.Hour} {
		b.pass(at)
	}
	if got := b.get(task.ID); got.Status.Terminal() {
		t.Fatalf("the task is %s", got.Status)
	}
	if got := time.Duration(b.int("PTTL", b.keys.acts(task.ID))) * time.Millisecond; got < 90*time.Minute {
		t.Errorf("the acts live for %v", got)
	}
	// Answered long after the maximum age: as if the answer came now.
	b.int("HSET", b.keys.task(task.ID), fieldBorn, formatMillis(time.Now().Add(-4*time.Hour).UnixMilli()))
	b.wantVerdict("an answer", answer(task.ID, "s", "c"), engine.VerdictAccepted)
	b.pass(59 * time.Minute)
	if got := b.get(task.ID); got.Status.Terminal() {
		t.Error("it was ended as soon as it was answered")
	}
	b.pass(61 * time.Minute)
	if got := b.get(task.ID); !got.Status.Terminal() {
		t.Error("it is open for ever")
	}
}

// An answer is as durable as Config.Wait says, also one that is repeated; what is
// refused does not wait.
func TestResolveWaits(t *testing.T) {
	t.Parallel()
	w := redistest.Sentinel(t)
	b := openAt(t, w.Primary(), func(c *Config) {
		c.Wait = WaitConfig{Replicas: 1, Timeout: 1500 * time.Millisecond}
	})
	task := b.create()
	b.append(task.ID, suspension("s", time.Time{}), suspension("t", time.Time{}), suspension("u", time.Time{}))
	eventually(t, "an answer is confirmed", func() bool { // a busy replica may take its time
		_, err := b.Resolve(t.Context(), answer(task.ID, "s", "c"))
		return err == nil
	})
	eng, err := leaseEngine(b.Store, processTTL, b.cfg.Logger)
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
	if n := w.Replica().Must("HEXISTS", b.keys.acts(task.ID), "r:c"); n != int64(1) {
		t.Error("the replica does not have the receipt")
	}
	w.DetachReplica()
	for range 2 {
		_, err := b.Resolve(t.Context(), answer(task.ID, "t", "d"))
		b.wantCode("Resolve without a replica", err, engine.CodeStoreUnavailable)
	}
	// Nor is a client told that it was accepted.
	_, err = eng.Act(t.Context(), engine.AuthContext{Subject: "ann"}, engine.ActionRequest{
		TaskID: task.ID, SuspendID: "u", ClientActionID: "f", ActionType: "approve",
	})
	b.wantCode("Act without a replica", err, engine.CodeStoreUnavailable)
	begin := time.Now()
	b.wantVerdict("another one", answer(task.ID, "t", "e"), engine.VerdictResolved)
	if took := time.Since(begin); took > b.cfg.Wait.Timeout {
		t.Errorf("it took %v to refuse one", took)
	}
	w.AttachReplica()
	eventually(t, "it is confirmed", func() bool {
		v, err := b.Resolve(t.Context(), answer(task.ID, "t", "d"))
		return err == nil && v == engine.VerdictDeduplicated
	})
}
