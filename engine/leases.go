package engine

import (
	"context"
	"time"
)

// Leases is the power of a store that outlives its processes: whoever works on
// a task holds a lease of it, so that a worker that died is noticed, and one
// that was taken for dead can write no more. New looks for it once. A store
// without it is one process's, whose tasks end with it.
//
// Time is the store's: no process's clock makes a lease longer or shorter. A
// lease ends with its task: Append of a terminal event releases it, whoever
// appends. See docs/adr/0007-leases.md.
//
// Every method may be called concurrently; errors are those of [Store].
type Leases interface {
	// Acquire makes holder the holder of an open task, for ttl, and returns
	// the fence for its appends (Append.Fence). A fence grows with every change
	// of holder; the holder of a lease that acquires it again, even one that
	// ran out, keeps its fence and gets a new ttl. TASK_CONFLICT while another
	// holder's lease lives, TASK_ALREADY_TERMINAL if the task is over.
	Acquire(ctx context.Context, taskID, holder string, ttl time.Duration) (fence uint64, err error)

	// Renew gives all these leases of one holder a new ttl, in one round trip
	// or few. It is to be called at least every third of ttl. A lease that ran
	// out and that nobody else acquired is renewed like any other. lost are
	// those that are not holder's any more: another acquired them, or they were
	// released, or the task is over or gone. After an error some may have been
	// renewed, and lost is not all.
	Renew(ctx context.Context, holder string, taskIDs []string, ttl time.Duration) (lost []string, err error)

	// Release gives a lease back; one that is not holder's is left alone. The
	// task is nobody's then, and no orphan. With orphan it is one, at once; so is
	// an open task that is Restartable and whose cancellation was requested:
	// TaskRegistry.RequestCancel makes one of it, in the same atomic step, if
	// nobody holds it then.
	Release(ctx context.Context, taskID, holder string, orphan bool) error

	// Orphans gives up to limit open tasks whose lease ran out, or that
	// nobody acquired within Task.OpenWithin. Before it names one it has seen the
	// lease overdue and then left its holder a third of the ttl to renew it, so
	// that neither an outage of the store nor a jump of its clock makes orphans
	// of tasks that are being worked on. What one caller was given, no other gets
	// for some seconds; then it is offered again, until it is acquired or ended.
	// Other tasks that nobody acquired, or whose lease was released, are no
	// orphans. It looks at what is due, not at all tasks, and is made to be called
	// every few seconds on every node. It may give tasks and an error: what it
	// could not look at comes later.
	Orphans(ctx context.Context, limit int) ([]Orphan, error)
}

// Orphan is an open task whose worker is lost.
type Orphan struct {
	TaskID string
	// Takeovers is how often the task's lease was acquired by another after it
	// had run out, since it was last released.
	Takeovers int
	// Released says that the last holder gave the task away: it released its lease
	// with orphan. Otherwise the worker is lost, or there was none.
	Released bool
	// Waited is for how long it has been offered since nobody has held it, the
	// first time 0; time in which nobody asked for orphans counts little.
	Waited time.Duration
}

// LeaseConfig tunes how tasks are held and lost workers noticed, on a store
// that has Leases.
type LeaseConfig struct {
	// TTL is how long a worker may be silent. A task whose process died is
	// failed with code WORKER_LOST, or run again, between two thirds and four
	// thirds of it later. Renewals go out every third of it, so a process that is
	// paused, or cut off, for half of it loses nothing; one that is away for longer
	// than it loses its tasks. Defaults to 15s, at least 100ms.
	TTL time.Duration
	// MaxRestarts is how often a restartable task is run again that loses its
	// worker each time; then it is failed with code WORKER_LOST. What it lost
	// while it waited for an answer does not count. Defaults to 5; negative is
	// none.
	MaxRestarts int
	// RestartWithin is how long a restartable task that nobody works on may wait
	// for a node that can run it again: one that has a handler of its type, and
	// room. Then it is failed with code WORKER_LOST. Time in which no node at all
	// is alive counts little. Before that, those who cannot run it say so in the
	// log every some minutes. Defaults to 15m; negative is for as long as the
	// store keeps an open task.
	RestartWithin time.Duration
}

// CodeWorkerLost is the code of the TASK_FAILED that ends a task whose worker
// died, or was silent for longer than LeaseConfig.TTL, and that is not
// restartable, was run again too often, or found no node that could run it.
const CodeWorkerLost = "WORKER_LOST"

// ErrLeaseLost is the cause of a run's context, and what its events are refused
// with, when the task's lease is not this process's any more: it was silent for
// too long and was taken for dead, so that another acquired the lease or ended
// the task. It has the code TASK_CONFLICT.
var ErrLeaseLost = NewError(CodeTaskConflict, "the task is not this worker's any more")
