package rueidisstore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Config says where the data lives and bounds it. Only Redis.InitAddress is
// required; the zero value of every other field is a default.
type Config struct {
	// Redis reaches one server, a Sentinel set (Sentinel.MasterSet) or a
	// Cluster. The store makes clients of its own from it and sets timeouts,
	// retries, buffers and multiplexing where they are left at zero.
	Redis rueidis.ClientOption
	// Prefix begins every key. Stores with different prefixes share a Redis
	// without seeing each other. Defaults to "taskbridge".
	Prefix string
	// IDSecret keys the hash that task ids are derived with; the same on all
	// nodes, at least 16 bytes. Left out, the first node puts a random one
	// into Redis. See docs/adr/0005-derived-task-ids.md.
	IDSecret []byte

	// MaxStreamLength is how many events of a task are retained at least:
	// the newest. Up to about twice as many are. Defaults to 1000.
	MaxStreamLength int
	// MaxStreamBytes bounds the retained events of a task; the newest batch is
	// kept whatever its size. Defaults to 8 MiB.
	MaxStreamBytes int64

	// StreamTTL is how long the log of a task is kept after its terminal
	// event. Defaults to 24h.
	StreamTTL time.Duration
	// RecordTTL is how long the record, with the terminal event in it, is kept
	// after the log. Defaults to 24h.
	RecordTTL time.Duration
	// MaxOpenAge ends tasks that nobody ends: this long after its creation or
	// the last answer to one of its suspensions, or when the last of its open
	// ones expires if that is later, a task gets a TASK_FAILED with code
	// TASK_EXPIRED, retryable. Defaults to 7 days.
	MaxOpenAge time.Duration
	// Attachments is where the host keeps the files of its tasks
	// (engine.Config.Attachments, the same for all nodes): they are deleted when
	// a task is erased, and by maintenance when its record's time is over, up to
	// some CleanupIntervals late. Left out, files stay.
	Attachments FileDeleter
	// CleanupInterval is about how often the due index is worked off, by
	// whichever node comes first. Defaults to 1h.
	CleanupInterval time.Duration

	// CacheTTL is how long a record may stay in the client-side cache without
	// being read again; changes are seen at once whatever it is. Defaults to
	// 10 minutes.
	CacheTTL time.Duration
	// CacheBytes bounds the client-side cache, for each Redis node. Defaults
	// to 64 MiB.
	CacheBytes int

	// ProbeInterval is the time between the small writes by which a process finds
	// out whether Redis takes writes, on each connection that it reads or writes by.
	// Ready returns the last result, and connections to a server that was demoted
	// are dropped. Defaults to 1s.
	ProbeInterval time.Duration

	// CommandTimeout bounds every command, retries included. Defaults to 2s.
	CommandTimeout time.Duration

	// Subjects bounds the tasks of one subject and their bytes. Defaults to no
	// bound: only the host knows how much there is to share.
	Subjects SubjectConfig

	// Actions bounds what is kept of suspensions and the answers to them.
	Actions ActionConfig
	// Append tunes the pipeline that appends go through.
	Append AppendConfig
	// Wait asks for more than one server's word on terminal and action events.
	Wait WaitConfig
	// Tail tunes how followed logs are read.
	Tail TailConfig

	// Logger receives what nobody is returned. Defaults to slog.Default().
	Logger *slog.Logger
}

// ActionConfig bounds what is kept of a task's suspensions and the answers to
// them.
type ActionConfig struct {
	// MaxOpen is how many suspensions of a task may be open at once; a further
	// one is refused with INVALID_TASK_STATE. Defaults to 32.
	MaxOpen int
	// MaxResolved is how many suspensions of a task are kept after they were
	// resolved, with the receipts of their answers: those that were resolved last.
	// A repeat of a forgotten answer is told that there is no such suspension. An
	// answer that the executor does not have yet is kept. Defaults to 256.
	MaxResolved int
	// TTL is how long they are kept after the task's terminal event. After it,
	// any answer to the task is told that it is over, also one that was accepted,
	// and one to a suspension that the task never had. Defaults to StreamTTL +
	// RecordTTL, as long as the record is kept, and is no longer.
	TTL time.Duration
}

// AppendConfig tunes the append pipeline.
type AppendConfig struct {
	// MaxFlushDelay lets the pipeline gather appends of many tasks for this
	// long after each flush: with hundreds of tasks appending at once some 20µs
	// save most of Redis's system calls, with a few they cost latency. Defaults
	// to no delay.
	MaxFlushDelay time.Duration
	// Connections is how many connections to each Redis node commands are
	// spread over: 1, 2, 4 or 8. Defaults to 1.
	Connections int
}

// WaitConfig makes appends with a terminal or action event wait until replicas
// (WAIT) or disks (WAITAOF, Redis 7.2) have them. An append that was not
// confirmed in time fails with STORE_UNAVAILABLE; it may still have been stored,
// and a repeat with its token waits again. The zero value waits for nothing.
type WaitConfig struct {
	// Replicas is how many replicas must have the event.
	Replicas int
	// Fsync asks that they, and the primary, have it on disk. Needs
	// appendonly yes on each.
	Fsync bool
	// Timeout bounds the wait. Defaults to 1s.
	Timeout time.Duration
}

func (w WaitConfig) wanted() bool { return w.Replicas > 0 || w.Fsync }

// TailConfig tunes the tail: how the logs that this process follows are read.
type TailConfig struct {
	// Round is how many logs one round of pipelined reads takes at most.
	// Defaults to 500.
	Round int
	// SweepInterval is about how often logs that nothing was heard of are
	// read. Defaults to 10s.
	SweepInterval time.Duration
	// PollInterval is about how often logs are read on a server that cannot
	// track keys; those that are quiet up to eight times less often. Defaults
	// to 50ms.
	PollInterval time.Duration
	// ReadTimeout bounds a round. Defaults to Config.CommandTimeout.
	ReadTimeout time.Duration
}

func (c Config) withDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, "taskbridge")
	c.MaxStreamLength = cmp.Or(c.MaxStreamLength, 1000)
	c.MaxStreamBytes = cmp.Or(c.MaxStreamBytes, 8<<20)
	c.StreamTTL = cmp.Or(c.StreamTTL, 24*time.Hour)
	c.RecordTTL = cmp.Or(c.RecordTTL, 24*time.Hour)
	c.MaxOpenAge = cmp.Or(c.MaxOpenAge, 7*24*time.Hour)
	c.CleanupInterval = cmp.Or(c.CleanupInterval, time.Hour)
	c.CacheTTL = cmp.Or(c.CacheTTL, 10*time.Minute)
	c.CacheBytes = cmp.Or(c.CacheBytes, 64<<20)
	c.ProbeInterval = cmp.Or(c.ProbeInterval, time.Second)
	c.CommandTimeout = cmp.Or(c.CommandTimeout, 2*time.Second)
	c.Actions.MaxOpen = cmp.Or(c.Actions.MaxOpen, 32)
	c.Actions.MaxResolved = cmp.Or(c.Actions.MaxResolved, 256)
	c.Actions.TTL = min(cmp.Or(c.Actions.TTL, math.MaxInt64), c.StreamTTL+c.RecordTTL)
	c.Append.Connections = cmp.Or(c.Append.Connections, 1)
	c.Wait.Timeout = cmp.Or(c.Wait.Timeout, time.Second)
	c.Tail.Round = cmp.Or(c.Tail.Round, 500)
	c.Tail.SweepInterval = cmp.Or(c.Tail.SweepInterval, 10*time.Second)
	c.Tail.PollInterval = cmp.Or(c.Tail.PollInterval, 50*time.Millisecond)
	c.Tail.ReadTimeout = cmp.Or(c.Tail.ReadTimeout, c.CommandTimeout)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// validate is asked after withDefaults, so that zero never comes here.
func (c Config) validate() error {
	if len(c.Redis.InitAddress) == 0 {
		return errors.New("rueidisstore: Config.Redis.InitAddress is required")
	}
	if c.Redis.ReplicaOnly {
		return errors.New("rueidisstore: Config.Redis.ReplicaOnly: a store writes")
	}
	if c.Redis.SendToReplicas != nil {
		return errors.New("rueidisstore: Config.Redis.SendToReplicas: a replica may lack what a fresh read must see")
	}
	if c.Redis.DisableAutoPipelining {
		return errors.New("rueidisstore: Config.Redis.DisableAutoPipelining: it drops invalidations")
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		return fmt.Errorf("rueidisstore: Config.Prefix %q has a brace, which would move its keys to another hash slot", c.Prefix)
	}
	if n := len(c.IDSecret); n > 0 && n < minSecret {
		return fmt.Errorf("rueidisstore: Config.IDSecret has %d bytes, want at least %d", n, minSecret)
	}
	if n := c.Append.Connections; n != 1 && n != 2 && n != 4 && n != 8 {
		return fmt.Errorf("rueidisstore: Config.Append.Connections is %d, want 1, 2, 4 or 8", n)
	}
	for _, f := range []struct {
		name string
		got  int64
		min  int64
	}{
		{"MaxStreamLength", int64(c.MaxStreamLength), 1},
		{"MaxStreamBytes", c.MaxStreamBytes, 1},
		{"StreamTTL", int64(c.StreamTTL), int64(time.Millisecond)},
		{"RecordTTL", int64(c.RecordTTL), int64(time.Millisecond)},
		{"MaxOpenAge", int64(c.MaxOpenAge), int64(time.Millisecond)},
		{"CleanupInterval", int64(c.CleanupInterval), int64(time.Millisecond)},
		{"CacheTTL", int64(c.CacheTTL), int64(time.Millisecond)},
		{"CacheBytes", int64(c.CacheBytes), 1},
		{"ProbeInterval", int64(c.ProbeInterval), int64(time.Millisecond)},
		{"CommandTimeout", int64(c.CommandTimeout), int64(time.Millisecond)},
		{"Subjects.MaxTasks", int64(c.Subjects.MaxTasks), 0},
		{"Subjects.MaxBytes", c.Subjects.MaxBytes, 0},
		{"Actions.MaxOpen", int64(c.Actions.MaxOpen), 1},
		{"Actions.MaxResolved", int64(c.Actions.MaxResolved), 1},
		{"Actions.TTL", int64(c.Actions.TTL), int64(time.Millisecond)},
		{"Append.MaxFlushDelay", int64(c.Append.MaxFlushDelay), 0},
		{"Wait.Replicas", int64(c.Wait.Replicas), 0},
		{"Wait.Timeout", int64(c.Wait.Timeout), int64(time.Millisecond)},
		{"Tail.Round", int64(c.Tail.Round), 1},
		{"Tail.SweepInterval", int64(c.Tail.SweepInterval), int64(time.Millisecond)},
		{"Tail.PollInterval", int64(c.Tail.PollInterval), int64(time.Millisecond)},
		{"Tail.ReadTimeout", int64(c.Tail.ReadTimeout), int64(time.Millisecond)},
	} {
		if f.got < f.min {
			return fmt.Errorf("rueidisstore: Config.%s is too small or negative", f.name)
		}
	}
	return nil
}

// openTTL is how long the keys of an open task live unless maintenance renews
// them. What is beyond its maximum age is a margin in which some node has to
// come by: a redeploy, a weekend.
func (c Config) openTTL() time.Duration { return c.MaxOpenAge + c.margin() }

func (c Config) margin() time.Duration {
	return max(c.MaxOpenAge/2, 8*c.CleanupInterval, time.Minute)
}

// indexTTL is longer than anything that the due index or the secret is for.
func (c Config) indexTTL() time.Duration {
	return 2*c.openTTL() + c.StreamTTL + c.RecordTTL
}
