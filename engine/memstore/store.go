// Package memstore is the embedded store: tasks, their logs, cancel signals
// and attachments in the memory of one process, bounded in number, bytes and
// age. It serves development, tests and hosts that run as a single process;
// nothing survives the process.
//
// Each task has a lock of its own, so that an append to one task never waits
// for another. Followers are pushed to under that lock, before anything is
// trimmed: a follower of this store never loses events to trimming, only to
// Erase (or eviction, which is the same).
package memstore

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Store implements engine.Store, engine.Signals, engine.ActionStore,
// engine.Checkpoints, engine.Revocations, engine.AttachmentStore,
// engine.ReadinessProbe and io.Closer. Make one with New; it is safe for concurrent
// use. After Close every call fails with STORE_UNAVAILABLE.
type Store struct {
	cfg Config
	now func() time.Time // the wall clock; tests turn it back

	tasks sync.Map // task ID → *entry
	index sync.Map // requestKey → *entry
	usage usage
	dues  dues
	files engine.AttachmentStore

	revocations revocations

	mu     sync.Mutex // guards closed, and running against Close
	closed bool
	done   chan struct{}
	// running counts the store's goroutines: maintenance and signals.
	running sync.WaitGroup
}

var (
	_ engine.Store           = (*Store)(nil)
	_ engine.Signals         = (*Store)(nil)
	_ engine.ActionStore     = (*Store)(nil)
	_ engine.AttachmentStore = (*Store)(nil)
	_ engine.ReadinessProbe  = (*Store)(nil)
)

// New returns an empty store. An error names the field of Config. Close it.
func New(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := newStore(cfg, time.Now)
	s.running.Go(s.maintain)
	return s, nil
}

func newStore(cfg Config, now func() time.Time) *Store {
	s := &Store{cfg: cfg.withDefaults(), now: now, done: make(chan struct{})}
	s.files = s.cfg.Attachments
	if s.files == nil {
		s.files = &memoryFiles{reserve: s.reserveBytes, release: s.releaseBytes}
	}
	return s
}

// Close stops the store's maintenance and waits for it and for the signals
// under way. It may be called again. Followers get no further call.
func (s *Store) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// SingleProcess is true: another process, a child of Fiber's prefork for one,
// has tasks of its own. Bridge.Mount refuses such a pair.
func (s *Store) SingleProcess() bool { return true }

// Name is "store".
func (s *Store) Name() string { return "store" }

// Ready fails once the store is closed.
func (s *Store) Ready(context.Context) error {
	if s.isClosed() {
		return errors.New("the store is closed")
	}
	return nil
}

func (s *Store) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// start runs fn in a goroutine that Close waits for; on a closed store it does
// nothing.
func (s *Store) start(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(fn)
	}
}

// find returns the entry of a task.
func (s *Store) find(taskID string) (*entry, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	if v, ok := s.tasks.Load(taskID); ok {
		return v.(*entry), nil
	}
	return nil, errNotFound()
}

func errNotFound() error { return engine.NewError(engine.CodeTaskNotFound, "task not found") }

func errClosed() error {
	return engine.NewError(engine.CodeStoreUnavailable, "the store is closed")
}

// errSubjectFull is the refusal for a subject that has reached a bound of its own.
func errSubjectFull(what string) error {
	e := engine.NewError(engine.CodeRateLimited, "you have too much stored here")
	e.RetryAfter = fullRetryAfter
	return e.WithCause(errors.New("memstore: " + what + " reached and no finished task of the subject left to erase"))
}

func errFull(what string) error {
	e := engine.NewError(engine.CodeStoreUnavailable, "the store is full")
	e.RetryAfter = fullRetryAfter
	return e.WithCause(errors.New("memstore: " + what + " reached and no finished task left to erase"))
}

// fullRetryAfter is how long a full store asks clients to wait: some task may
// have ended by then.
const fullRetryAfter = 5 * time.Second

// randomName returns 32 characters of [a-z2-7], 160 random bits.
func randomName() string {
	return strings.ToLower((rand.Text() + rand.Text())[:32])
}
