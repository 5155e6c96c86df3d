package engine

import (
	"context"
	"io"
)

// Store holds tasks and their logs. One value implements both seams, so that a
// change of status and the event that tells of it are one atomic step; see
// docs/adr/0001-one-store.md.
//
// What else a store can do is looked for once, in New: [BoundedReader],
// [Signals], [Leases], [ActionStore], [Checkpoints], [Revocations],
// [AttachmentStore], [ReadinessProbe] and io.Closer, and the method
// SingleProcess (see [Engine.SingleProcess]).
//
// Every method may be called concurrently. Errors are *Error: TASK_NOT_FOUND
// for a task that the store does not know, STORE_UNAVAILABLE for a passing
// fault, INTERNAL_ERROR for anything else. Package enginetest holds the suite
// that every store must pass.
type Store interface {
	TaskRegistry
	EventStore
}

// TaskRegistry holds the task records.
type TaskRegistry interface {
	// Create stores task if (Owner, ClientRequestID) is new, gives it its ID,
	// and returns it with created true. Otherwise it changes nothing and
	// returns what is there with created false. This is one atomic operation:
	// of many equal calls at once, on any number of nodes, exactly one creates.
	// task.ID is ignored; everything else is stored as it is.
	Create(ctx context.Context, task Task) (stored Task, created bool, err error)

	// Lookup returns the task that owner created with clientRequestID.
	Lookup(ctx context.Context, owner, clientRequestID string) (Task, error)

	// Get returns a task. Cached allows an answer that is as old as the store's
	// own invalidation takes (milliseconds), also that there is none; Fresh does
	// not.
	Get(ctx context.Context, taskID string, freshness Freshness) (Task, error)

	// RequestCancel notes that somebody wants the task cancelled and returns
	// the record. The first reason stays. On a task that is over it changes
	// nothing. Whoever listens to the task's Signals is woken. A store that has
	// Leases makes an orphan of a Restartable task that is open and that nobody
	// holds: no run would hear of it.
	RequestCancel(ctx context.Context, taskID, reason string) (Task, error)

	// Erase removes the task and all that belongs to it, whatever its state.
	// Followers of its log get Lost. Erasing what is not there is no error.
	Erase(ctx context.Context, taskID string) error
}

// Freshness says how old an answer of TaskRegistry.Get may be.
type Freshness bool

// The two kinds of read.
const (
	Cached Freshness = false
	Fresh  Freshness = true
)

// EventStore holds the tasks' logs.
type EventStore interface {
	// Append adds events to the log of one task: all or none, with the next
	// ordinals, in the order given. In the same atomic step it sets the task's
	// status (EventType.StatusAfter), notes open suspensions (opened by
	// TASK_SUSPENDED, closed by TASK_ACTION_ACCEPTED or a terminal event), takes
	// Task.Restarts from a TASK_STARTED that has restarts, and keeps the terminal
	// event in the record.
	//
	// A repeat with the token of an earlier append to the same task returns
	// the first one's ids and writes nothing, also after the task is over.
	// After a terminal event every other append fails with
	// TASK_ALREADY_TERMINAL. A terminal event may only be the last of a batch.
	// A store that has Leases then refuses an append whose Fence is not zero
	// with TASK_CONFLICT if the lease was acquired with a higher one since.
	//
	// It gives up when ctx ends, without waiting for what hangs; the batch may
	// be stored all the same.
	Append(ctx context.Context, a Append) ([]EventID, error)

	// Read returns up to limit events (at least 1) that lie after the cursor,
	// in order. A task that is known but whose log has expired gives an empty
	// page with Expired set.
	Read(ctx context.Context, taskID string, after EventID, limit int) (Page, error)

	// Follow pushes every event of the task after the cursor to f, in order
	// and without a hole, those already stored first, until stop is called.
	// after is a position that Read gave, or zero. If events that f has not
	// had are gone, f.Lost is called. It fails with TASK_NOT_FOUND if the task
	// is unknown; following an expired log pushes nothing.
	//
	// stop returns when no call to f is under way and none will follow. It
	// must not be called from within f.
	Follow(ctx context.Context, taskID string, after EventID, f Follower) (stop func(), err error)
}

// Append is one batch for EventStore.Append.
type Append struct {
	TaskID string
	// Token makes a repeat of the same batch harmless. Not empty.
	Token string
	// Fence is what Leases.Acquire gave whoever appends. Zero is an append that
	// needs no lease. A store without Leases ignores it.
	Fence  uint64
	Events []Draft
	// Checkpoint, if not nil, takes the place of the task's checkpoint in the
	// same atomic step and by the same rules: nothing is saved if the events would be
	// refused. Its At becomes the id of the last of Events. With a Checkpoint Events
	// may be empty: At is then the newest event of the log, Append returns no ids, and
	// the token is not remembered. Instead, a Checkpoint whose Number is not higher
	// than the stored one's is not written, without an error, if both have the same
	// Fence and that is not zero. It cannot come with a terminal event. Only a store
	// with [Checkpoints] gets one.
	Checkpoint *Checkpoint
}

// Page is an answer of EventStore.Read: facts about the log, taken at one
// moment. What they mean for a client, the engine decides.
type Page struct {
	// Events lie after the cursor by EventID.Compare; their ordinals are dense.
	Events []Event
	// First is the oldest retained event, Last the newest. Both are zero if
	// the log holds none.
	First, Last EventID
	// Found says that the log holds the very event that the cursor names.
	Found bool
	// More says that the log holds events after the last one in Events.
	More bool
	// Expired says that the task is known and its log is gone.
	Expired bool
}

// Follower takes the events of one task. A store makes one call at a time and
// may hold locks meanwhile: a Follower only notes what it gets, returns at
// once, and never calls the store.
type Follower interface {
	// Push hands over the next events: at least one, dense ordinals, joining
	// on to the one before.
	Push(events []Event)
	// Lost says that the log no longer joins on to what was pushed: it was
	// trimmed faster than it was followed, a store lost its tail, or the task
	// was erased. The next Push goes on from wherever the log does then;
	// positions must be looked up anew with Read.
	Lost()
}

// Signals carries what happens to a task to whichever node it runs on. It is
// state plus a wake-up: what came before anyone listened is not lost.
type Signals interface {
	// Listen calls fn with the task's Signal: at once if it is not zero, then
	// whenever it has changed. fn is called in a goroutine of the store, one
	// call at a time; what changes meanwhile comes in one further call, with
	// the Signal of then. It must return quickly, and may call the store, stop
	// included. stop does not wait for fn; no call begins after it.
	Listen(ctx context.Context, taskID string, fn func(Signal)) (stop func(), err error)
}

// Signal is what others have done to a task, as far as its worker must know.
type Signal struct {
	// CancelRequested says that somebody asked; CancelReason is the first one's
	// reason.
	CancelRequested bool
	CancelReason    string
	// Resolved grows whenever a suspension of the task is resolved: by an
	// answer, by its expiry, or by the end of the task.
	Resolved uint64
}

// AttachmentStore holds uploaded files from the create request until the task
// is erased or expires. Its methods may be called concurrently, Open and Delete
// on any node. An *Error that one returns is passed on (STORE_UNAVAILABLE for a
// passing fault); any other error is an INTERNAL_ERROR.
type AttachmentStore interface {
	// Put stores what r gives, under a name without directories, and returns
	// it: name and contentType as given, with size, digest and Ref. Names
	// repeat; Ref is what Open and Delete find the file by. On an error nothing
	// stays.
	Put(ctx context.Context, name, contentType string, r io.Reader) (Attachment, error)
	// Open reads an attachment back.
	Open(ctx context.Context, a Attachment) (io.ReadCloser, error)
	// Delete removes it; deleting what is not there is no error.
	Delete(ctx context.Context, a Attachment) error
}

// ReadinessProbe tells whether a dependency can serve.
type ReadinessProbe interface {
	// Name is the dependency's key in the details of /ready.
	Name() string
	// Ready returns nil, or what is wrong, in words fit for an operator.
	Ready(ctx context.Context) error
}
