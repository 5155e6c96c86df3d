// Package rueidisstore keeps tasks and their logs in Redis or Valkey, on one
// server, under Sentinel or in a Cluster. Any number of processes on one Redis
// are one service: create on one, stream from another, cancel on a third.
//
// Each task has all its keys in one hash slot; one script for each verb makes a
// change of status and the event that tells of it one atomic step. No
// connection ever blocks for a reader, and none belongs to a task.
package rueidisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Store implements engine.Store, engine.Signals, engine.Leases,
// engine.ActionStore, engine.Checkpoints, engine.Revocations,
// engine.ReadinessProbe and io.Closer.
// Make one with New; it is safe for concurrent use. After Close every call fails
// with STORE_UNAVAILABLE.
type Store struct {
	cfg  Config
	keys keyspace
	// client carries commands, scripts and cached reads.
	client rueidis.Client
	// secret keys deriveTag. It changes only if Redis lost the old one.
	secret    atomic.Pointer[[]byte]
	dues      *dueQueue
	deadlines deadlines
	recounts  recounts
	tail      *tail
	// proof tells whether Redis takes writes.
	proof *proof
	// Arguments of every append, or answer.
	maxStreamLength, maxStreamBytes, maxResolved string
	// quick is append_quick.lua with this store's bounds.
	quick *rueidis.Lua
	// unsound holds shards of the index of suspensions that are to be checked.
	unsound chan int

	// life ends with Close; the store's goroutines, counted by running, live by
	// it.
	life    context.Context
	end     context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

var (
	_ engine.TaskRegistry   = (*Store)(nil)
	_ engine.ReadinessProbe = (*Store)(nil)
)

// followSlack is how many entries more than promised a trimmed log keeps, so that
// a follower which is a few milliseconds behind loses nothing however short the
// logs are.
const followSlack = 200

// New connects to Redis and returns a store. It fails if it cannot reach Redis,
// log in, or run a command that it will need (too old a server, a replica, a
// missing ACL right), and if the keys under the prefix are of a schema that
// this library does not know. An error about the configuration names the field.
// Close it.
func New(cfg Config) (*Store, error) { return NewContext(context.Background(), cfg) }

// NewContext is New that fails when ctx ends: with a server that hangs, New may take
// several CommandTimeouts. After NewContext has returned a store, ctx no longer
// matters to it.
func NewContext(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	// rueidis connects without a context, and a context does not interrupt a command
	// that is under way. Closing the connections ends both.
	proof := newProof()
	conns := newLinks(cfg.Logger, proof.ask)
	stop := context.AfterFunc(ctx, conns.abort)
	s, err := newStore(ctx, cfg, conns, proof)
	if !stop() {
		if s != nil {
			_ = s.Close()
		}
		return nil, fmt.Errorf("rueidisstore: connect to %s: %w", strings.Join(cfg.Redis.InitAddress, ", "), context.Cause(ctx))
	}
	return s, err
}

func newStore(ctx context.Context, cfg Config, conns *links, proof *proof) (*Store, error) {
	client, err := connect(cfg, conns)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, keys: newKeyspace(cfg.Prefix), client: client, proof: proof, dues: newDueQueue(), deadlines: deadlines{timeout: cfg.CommandTimeout},
		recounts:        recounts{wanted: make(chan string, recountQueue)},
		maxStreamLength: strconv.Itoa(cfg.MaxStreamLength + followSlack), maxStreamBytes: strconv.FormatInt(cfg.MaxStreamBytes, 10),
		quick:       newQuickScript(cfg.MaxStreamLength+followSlack, cfg.MaxStreamBytes),
		maxResolved: strconv.Itoa(cfg.Actions.MaxResolved), unsound: make(chan int, dueShards),
	}
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		s.end()
		client.Close()
		return nil, err
	}
	return s, nil
}

// start checks what New promises, and starts the store's goroutines.
func (s *Store) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.checkServers, s.keepSecret, s.rehearse} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.tail = newTail(s.cfg, s.keys, s.client)
	s.running.Go(s.keepProving)
	s.running.Go(s.maintain)
	s.running.Go(s.applyDues)
	if s.cfg.Subjects.bounded() {
		s.running.Go(s.recountWanted)
	}
	return nil
}

// Close stops the store's goroutines, waits for them and closes the connections.
// It may be called again. Followers get no further call.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.end()
		s.tail.close()
		s.running.Wait()
		s.client.Close()
	})
	return nil
}

func (s *Store) isClosed() bool { return s.life.Err() != nil }

// Name is "redis".
func (s *Store) Name() string { return "redis" }
