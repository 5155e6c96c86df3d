package rueidisstore

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// All revocations are one hash, by id, so that they are read in one go, which
// only happens when one has changed. Its field '' is a version: the tail reads
// that alone, and with it Redis remembers the key.

var (
	//go:embed revoke_put.lua
	revokePutSource string
	//go:embed revoke_lift.lua
	revokeLiftSource string

	revokePutScript  = newMakingScript(revokePutSource)
	revokeLiftScript = rueidis.NewLuaScript(revokeLiftSource)
)

var _ engine.Revocations = (*Store)(nil)

// versionField is no id: those are not empty.
const versionField = ""

// revocations is a HASH, revocationTimes a ZSET of its ids by the time (ms) at
// which they lapse; in one slot.
func (k keyspace) revocations() string     { return k.versioned + "{revocations}" }
func (k keyspace) revocationTimes() string { return k.versioned + "{revocations}:times" }

func (k keyspace) ofRevocations() []string { return []string{k.revocations(), k.revocationTimes()} }

// PutRevocation implements engine.Revocations.
func (s *Store) PutRevocation(ctx context.Context, r engine.Revocation, limit int, needless ...engine.Revocation) error {
	return s.putRevocation(ctx, s.keys.ofRevocations(), r, limit, needless...)
}

func (s *Store) putRevocation(ctx context.Context, keys []string, r engine.Revocation, limit int, needless ...engine.Revocation) error {
	if s.isClosed() {
		return errClosed()
	}
	text, err := json.Marshal(r)
	if err != nil {
		return damaged("keep a revocation", err)
	}
	args := []string{r.ID, string(text), strconv.FormatInt(r.ExpiresAt.UnixMilli(), 10), strconv.Itoa(limit)}
	for _, old := range needless {
		if was, err := json.Marshal(old); err == nil && old.ID != r.ID {
			args = append(args, old.ID, string(was))
		}
	}
	ctx, done := s.bound(ctx)
	defer done()
	kept, err := revokePutScript.exec(ctx, s.client, 1, keys, args).AsInt64()
	switch {
	case err != nil:
		return classify("keep a revocation", err)
	case kept == 0:
		return engine.NewError(engine.CodeRateLimited, "too many revocations are in force")
	}
	return nil
}

// LiftRevocation implements engine.Revocations.
func (s *Store) LiftRevocation(ctx context.Context, id string) error {
	return s.liftRevocation(ctx, s.keys.ofRevocations(), id)
}

func (s *Store) liftRevocation(ctx context.Context, keys []string, id string) error {
	if s.isClosed() {
		return errClosed()
	}
	if id == versionField {
		return nil
	}
	ctx, done := s.bound(ctx)
	defer done()
	return classify("lift a revocation", revokeLiftScript.Exec(ctx, s.client, keys, []string{id}).Error())
}

// ListRevocations implements engine.Revocations. Whether one has lapsed, this
// process's clock says. One that cannot be read is left out and logged: the
// others must hold all the same.
func (s *Store) ListRevocations(ctx context.Context) ([]engine.Revocation, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	ctx, done := s.bound(ctx)
	defer done()
	fields, err := s.client.Do(ctx, s.client.B().Hgetall().Key(s.keys.revocations()).Build()).AsStrMap()
	if err != nil {
		return nil, classify("list revocations", err)
	}
	all := make([]engine.Revocation, 0, len(fields))
	now := time.Now()
	for id, text := range fields {
		if id == versionField {
			continue
		}
		r, err := decodeRevocation(id, text)
		if err != nil {
			s.cfg.Logger.ErrorContext(ctx, "rueidisstore: a revocation cannot be read and does not hold", "id", id, "error", err)
			continue
		}
		if now.Before(r.ExpiresAt) {
			all = append(all, r)
		}
	}
	return all, nil
}

// decodeRevocation reads what PutRevocation wrote.
func decodeRevocation(id, text string) (engine.Revocation, error) {
	var r engine.Revocation
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return engine.Revocation{}, errors.New("it is not the JSON that was expected")
	}
	if r.ID != id || r.ExpiresAt.IsZero() {
		return engine.Revocation{}, errors.New("its id or its time is missing")
	}
	return r, nil
}

// WatchRevocations implements engine.Revocations. It does not wait for Redis: fn
// is called when it was first reached, too.
func (s *Store) WatchRevocations(fn func()) (func(), error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	w := &revocationWatch{fn: fn}
	w.unit = unit{key: s.keys.revocations(), read: w}
	if err := s.tail.watch(&w.unit); err != nil {
		return nil, err
	}
	var once sync.Once
	return func() { once.Do(func() { s.tail.unwatch(&w.unit) }) }, nil
}

// revocationWatch is one WatchRevocations. Its methods are the loop's.
type revocationWatch struct {
	unit
	fn      func()
	version string
	known   bool
}

// question implements reading.
func (w *revocationWatch) question(bool) question { return question{} }

// command implements reading.
func (w *revocationWatch) command(b rueidis.Builder, _ question) rueidis.Completed {
	return b.Hmget().Key(w.key).Field(versionField).Build()
}

// answer implements reading. The version is a time of Redis's, which may stand
// still while the key does not: woken counts as well.
func (w *revocationWatch) answer(_ question, woken bool, reply []rueidis.RedisMessage) outcome {
	var version string
	if len(reply) == 1 {
		version, _ = reply[0].ToString() // none: no revocation, ever or any more
	}
	if woken || !w.known || version != w.version {
		w.known, w.version = true, version
		w.fn()
		return outcome{news: true}
	}
	return outcome{}
}

// failed implements reading.
func (w *revocationWatch) failed(error) {}

// rehearseRevocations runs the scripts on keys that nobody watches.
func (s *Store) rehearseRevocations(ctx context.Context) error {
	keys := []string{s.keys.revocations() + ":rehearsal", s.keys.revocationTimes() + ":rehearsal"}
	r := engine.Revocation{ID: rand.Text(), TaskID: "rehearsal", ExpiresAt: time.Now()}
	err := s.putRevocation(ctx, keys, r, 1<<20)
	liftErr := s.liftRevocation(ctx, keys, r.ID)
	_, listErr := s.ListRevocations(ctx)
	ctx, done := s.bound(ctx)
	defer done()
	forgetErr := s.client.Do(ctx, s.client.B().Unlink().Key(keys...).Build()).Error()
	return errors.Join(err, liftErr, listErr, forgetErr)
}
