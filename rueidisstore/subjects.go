package rueidisstore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// What a subject holds is counted in one hash, in a slot of its own. A task is
// counted before it is created, so that a crash leaves no task uncounted. The
// hash is not told when a task is gone or has grown: the store finds that out by
// asking Redis about each task, when the subject's share seems used up and after
// every recountEvery creates.

var (
	//go:embed subject_take.lua
	subjectTakeSource string
	//go:embed subject_correct.lua
	subjectCorrectSource string

	subjectTakeScript    = rueidis.NewLuaScript(subjectTakeSource)
	subjectCorrectScript = rueidis.NewLuaScript(subjectCorrectSource)
)

const (
	// recountEvery is the number of a subject's creates in this process after which
	// its tasks are counted again.
	recountEvery = 64
	// recountPause is the shortest time between two recounts of one subject in this
	// process.
	recountPause = time.Second
	// recountChunk bounds the tasks that one round trip asks about.
	recountChunk = 200
	// recountQueue bounds the recounts that wait.
	recountQueue = 64
	// createMargin is how long ago a task must have been counted before a missing
	// record says that it is gone; until then it may be about to be created.
	createMargin = time.Minute
	// keysOverhead is about what Redis needs for the keys of a task.
	keysOverhead = 2 << 10
)

// SubjectConfig bounds the tasks of one subject. Finished tasks count until their
// TTL ends. A create beyond a bound is refused with RATE_LIMITED. With a bound, a
// create takes one more round trip.
type SubjectConfig struct {
	// MaxTasks is how many tasks one subject may have. Defaults to no bound.
	MaxTasks int
	// MaxBytes is how much memory the records and logs of these tasks may take, as
	// Redis's MEMORY USAGE reports it. Growth of a log is noticed up to 64 creates
	// late. Defaults to no bound.
	MaxBytes int64
}

func (c SubjectConfig) bounded() bool { return c.MaxTasks > 0 || c.MaxBytes > 0 }

func (c SubjectConfig) limits() (tasks, bytes string) {
	const none = "9007199254740991" // the largest integer that Lua's numbers hold
	tasks, bytes = none, none
	if c.MaxTasks > 0 {
		tasks = strconv.Itoa(c.MaxTasks)
	}
	if c.MaxBytes > 0 {
		bytes = strconv.FormatInt(c.MaxBytes, 10)
	}
	return tasks, bytes
}

// held returns the key of the hash that counts a subject's tasks. It is derived
// from the subject, as task ids are.
func (s *Store) held(owner string) string {
	mac := hmac.New(sha256.New, *s.secret.Load())
	mac.Write([]byte("subject\x00" + owner))
	return s.keys.versioned + "held:" + idEncoding.EncodeToString(mac.Sum(nil))[:idLength]
}

// recounts decides when a subject's tasks are counted again.
type recounts struct {
	// wanted holds the keys that recountWanted is to count again.
	wanted chan string

	mu    sync.Mutex
	byKey map[string]*recounted
}

// recounted is what this process knows of one subject's hash.
type recounted struct {
	last    time.Time // when the last recount began
	creates int       // since then
}

// of returns what is known of key. mu is held.
func (r *recounts) of(key string) *recounted {
	k := r.byKey[key]
	if k == nil {
		if r.byKey == nil || len(r.byKey) >= 10_000 {
			r.byKey = map[string]*recounted{}
		}
		k = &recounted{}
		r.byKey[key] = k
	}
	return k
}

// begin reports whether the caller may recount key now.
func (r *recounts) begin(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, now := r.of(key), time.Now()
	if now.Sub(k.last) < recountPause {
		return false
	}
	k.last, k.creates = now, 0
	return true
}

// created notes a create, and asks for a recount if it is time for one. It does
// not wait.
func (r *recounts) created(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, now := r.of(key), time.Now()
	if k.creates++; k.creates < recountEvery || now.Sub(k.last) < recountPause {
		return
	}
	select {
	case r.wanted <- key:
		k.last, k.creates = now, 0
	default: // many wait; a later create asks again
	}
}

// takeShare counts a task that is about to be created, or refuses it.
func (s *Store) takeShare(ctx context.Context, task *engine.Task, fields []string) error {
	if !s.cfg.Subjects.bounded() {
		return nil
	}
	key := s.held(task.Owner)
	size := keysOverhead
	for _, f := range fields {
		size += len(f)
	}
	for again := false; ; again = true {
		counted, err := s.count(ctx, key, task.ID, size)
		switch {
		case err != nil:
			return err
		case counted > 0:
			s.recounts.created(key)
			return nil
		case again || !s.recounts.begin(key):
			e := engine.NewError(engine.CodeRateLimited, "you have too much stored here")
			e.RetryAfter = recountPause
			return e
		}
		if err := s.recount(ctx, key); err != nil {
			return err
		}
	}
}

// count counts a task of size bytes. It returns how many tasks are counted, negative
// if there was no room.
func (s *Store) count(ctx context.Context, key, taskID string, size int) (int64, error) {
	tasks, bytes := s.cfg.Subjects.limits()
	ctx, done := s.bound(ctx)
	defer done()
	life := s.cfg.openTTL() + s.cfg.recordTTL()
	n, err := subjectTakeScript.Exec(ctx, s.client, []string{key},
		[]string{taskID, strconv.Itoa(size), tasks, bytes, millis(life)}).AsInt64()
	return n, classify("count a subject's tasks", err)
}

// giveShareBack uncounts a task that was counted and then not created. If the
// process dies before that, a recount finds it.
func (s *Store) giveShareBack(ctx context.Context, task *engine.Task) {
	if !s.cfg.Subjects.bounded() {
		return
	}
	ctx, done := s.bound(context.WithoutCancel(ctx))
	defer done()
	key := s.held(task.Owner)
	value, err := s.client.Do(ctx, s.client.B().Hget().Key(key).Field(task.ID).Build()).ToString()
	if err == nil {
		err = subjectCorrectScript.Exec(ctx, s.client, []string{key}, []string{task.ID, value, ""}).Error()
	}
	if err != nil && !rueidis.IsRedisNil(err) {
		s.complain("give a subject's share back", err)
	}
}

// recountWanted does the recounts that recounts.created asks for, until the store is
// closed.
func (s *Store) recountWanted() {
	for {
		select {
		case <-s.life.Done():
			return
		case key := <-s.recounts.wanted:
			if err := s.recount(s.life, key); err != nil {
				s.complain("recount what a subject holds", err)
			}
		}
	}
}

// recount asks Redis what the subject's tasks take now, and which are gone.
func (s *Store) recount(ctx context.Context, key string) error {
	timed, done := s.bound(ctx)
	counted, err := s.client.Do(timed, s.client.B().Hgetall().Key(key).Build()).AsStrMap()
	done()
	if err != nil {
		return classify("read what a subject holds", err)
	}
	var ids []string
	for id := range counted {
		if validID(id) {
			ids = append(ids, id)
		}
	}
	for len(ids) > 0 {
		chunk := ids[:min(recountChunk, len(ids))]
		ids = ids[len(chunk):]
		if err := s.recountSome(ctx, key, chunk, counted); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) recountSome(ctx context.Context, key string, ids []string, counted map[string]string) error {
	ctx, done := s.bound(ctx)
	defer done()
	questions := make(rueidis.Commands, 0, 3*len(ids))
	for _, id := range ids {
		questions = append(questions,
			s.client.B().Hget().Key(s.keys.task(id)).Field(fieldIncarnation).Build(),
			s.client.B().MemoryUsage().Key(s.keys.task(id)).Build(),
			s.client.B().MemoryUsage().Key(s.keys.log(id)).Build())
	}
	answers := s.client.DoMulti(ctx, questions...)
	var corrections []string
	for i, id := range ids {
		incarnation, err := answers[3*i].ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			return classify("ask about a subject's tasks", err)
		}
		if incarnation != incarnationOf(id) {
			if time.Since(countedAt(counted[id])) > createMargin {
				corrections = append(corrections, id, counted[id], "")
			}
			continue
		}
		size := int64(keysOverhead)
		for _, answer := range answers[3*i+1 : 3*i+3] {
			n, err := answer.AsInt64()
			if err != nil && !rueidis.IsRedisNil(err) {
				return classify("ask what a task takes", err)
			}
			size += n
		}
		corrections = append(corrections, id, counted[id], strconv.FormatInt(size, 10))
	}
	if len(corrections) == 0 {
		return nil
	}
	return classify("correct what a subject holds", subjectCorrectScript.Exec(ctx, s.client, []string{key}, corrections).Error())
}

// countedAt reads the time out of a value of the hash.
func countedAt(value string) time.Time {
	_, at, _ := strings.Cut(value, " ")
	ms, _ := strconv.ParseInt(at, 10, 64)
	return time.UnixMilli(ms)
}
