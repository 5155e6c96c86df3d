package memstore

import (
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Config bounds a Store. The zero value of each field is a default.
type Config struct {
	// MaxStreamLength is how many events of a task are retained: the newest,
	// and so always the terminal one. Defaults to 1000.
	MaxStreamLength int
	// MaxStreamBytes bounds the retained events of a task; the newest is kept
	// whatever its size. Defaults to 8 MiB.
	MaxStreamBytes int64
	// MaxTasks bounds the tasks held, finished ones included. When it is reached,
	// finished tasks of the subjects that hold the most bytes are erased, those that
	// finished first before others; if all are open, Create fails with
	// STORE_UNAVAILABLE. Defaults to 100000.
	MaxTasks int
	// MaxTasksPerSubject bounds the tasks of one subject. When it is reached, its
	// own finished tasks are erased; if all are open, Create fails with
	// RATE_LIMITED. Defaults to half of MaxTasks; negative is no bound of its own.
	MaxTasksPerSubject int
	// MaxBytes bounds records, logs and attachments together, as far as the
	// store can count them. When it is reached, finished tasks of the subjects that
	// hold most are erased, those that finished first before others; if all are open,
	// Create and Put fail with STORE_UNAVAILABLE, and a task that goes on appending keeps
	// fewer of its events. Defaults to 256 MiB.
	MaxBytes int64
	// MaxBytesPerSubject bounds what the tasks of one subject hold. When it is
	// reached, its own finished tasks are erased; if all are open, Create fails
	// with RATE_LIMITED, and a task that goes on appending keeps fewer of its
	// events. Defaults to half of MaxBytes; negative is no bound of its own.
	MaxBytesPerSubject int64

	// StreamTTL is how long the log of a task is kept after its terminal
	// event. Defaults to 24h.
	StreamTTL time.Duration
	// RecordTTL is how long the record, with the terminal event in it, is kept
	// after the log. Defaults to 24h.
	RecordTTL time.Duration
	// MaxOpenAge ends tasks that nobody ends: this long after its creation or
	// the last answer that it got, or when the last of its open suspensions
	// expires if that is later, a task gets a TASK_FAILED with code TASK_EXPIRED,
	// retryable. Defaults to 7 days.
	MaxOpenAge time.Duration
	// CleanupInterval is how often the three above are looked at. Defaults to
	// 30s, or less if one of them is short.
	CleanupInterval time.Duration

	// Actions bounds what is kept of suspensions and their answers.
	Actions ActionConfig

	// Attachments takes the files instead of the store's own memory; see
	// NewDir. The store deletes a task's files there when it drops the task.
	// Defaults to memory, within MaxBytes.
	Attachments engine.AttachmentStore
	// Logger receives what nobody is returned. Defaults to slog.Default().
	Logger *slog.Logger
}

// ActionConfig bounds what is kept of the suspensions of one task. All of it
// goes with the task's record.
type ActionConfig struct {
	// MaxOpen is how many suspensions of a task may be open at once; a
	// TASK_SUSPENDED beyond it is refused with INVALID_TASK_STATE. Defaults to
	// 32.
	MaxOpen int
	// MaxResolved is how many resolved suspensions of a task are kept, each with
	// the receipt of its answer: the latest, and all that have yet to be handed
	// over. A repeat of an answer that is no longer kept meets an unknown
	// suspension. Defaults to 256.
	MaxResolved int
	// TTL is how long they are kept after the task's terminal event. After it,
	// any answer to the task is told that it is over (VerdictResolved), also one
	// that was accepted, and one to a suspension that the task never had.
	// Defaults to StreamTTL + RecordTTL, as long as the record is kept, and is no
	// longer.
	TTL time.Duration
}

func (c Config) withDefaults() Config {
	if c.MaxStreamLength == 0 {
		c.MaxStreamLength = 1000
	}
	if c.MaxStreamBytes == 0 {
		c.MaxStreamBytes = 8 << 20
	}
	if c.MaxTasks == 0 {
		c.MaxTasks = 100_000
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 256 << 20
	}
	switch {
	case c.MaxTasksPerSubject < 0:
		c.MaxTasksPerSubject = math.MaxInt
	case c.MaxTasksPerSubject == 0:
		c.MaxTasksPerSubject = (c.MaxTasks + 1) / 2
	}
	switch {
	case c.MaxBytesPerSubject < 0:
		c.MaxBytesPerSubject = math.MaxInt64
	case c.MaxBytesPerSubject == 0:
		c.MaxBytesPerSubject = (c.MaxBytes + 1) / 2
	}
	if c.StreamTTL == 0 {
		c.StreamTTL = 24 * time.Hour
	}
	if c.RecordTTL == 0 {
		c.RecordTTL = 24 * time.Hour
	}
	if c.MaxOpenAge == 0 {
		c.MaxOpenAge = 7 * 24 * time.Hour
	}
	if c.Actions.MaxOpen == 0 {
		c.Actions.MaxOpen = 32
	}
	if c.Actions.MaxResolved == 0 {
		c.Actions.MaxResolved = 256
	}
	if c.Actions.TTL == 0 {
		c.Actions.TTL = c.StreamTTL + c.RecordTTL
	}
	if c.CleanupInterval == 0 {
		shortest := min(c.StreamTTL, c.RecordTTL, c.MaxOpenAge, c.Actions.TTL)
		c.CleanupInterval = max(min(30*time.Second, shortest/4), 10*time.Millisecond)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	for _, f := range []struct {
		name string
		bad  bool
	}{
		{"MaxStreamLength", c.MaxStreamLength < 0},
		{"MaxStreamBytes", c.MaxStreamBytes < 0},
		{"MaxTasks", c.MaxTasks < 0},
		{"MaxBytes", c.MaxBytes < 0},
		{"StreamTTL", c.StreamTTL < 0},
		{"RecordTTL", c.RecordTTL < 0},
		{"MaxOpenAge", c.MaxOpenAge < 0},
		{"CleanupInterval", c.CleanupInterval < 0},
		{"Actions.MaxOpen", c.Actions.MaxOpen < 0},
		{"Actions.MaxResolved", c.Actions.MaxResolved < 0},
		{"Actions.TTL", c.Actions.TTL < 0},
	} {
		if f.bad {
			return errors.New("memstore: Config." + f.name + " is negative")
		}
	}
	return nil
}
