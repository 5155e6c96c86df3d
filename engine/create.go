package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// CreateRequest asks for a new task.
type CreateRequest struct {
	// ClientRequestID makes the request safe to repeat: 1 to 255 characters.
	ClientRequestID string
	// TaskType is 1 to 255 characters.
	TaskType string
	// Input and Metadata are JSON objects; nil stands for {}.
	Input    json.RawMessage
	Metadata json.RawMessage
	// Files are the uploads, in the client's order.
	Files []File
}

// File is one upload of a CreateRequest. It is read twice at most: once for
// its digest, once to store it.
type File struct {
	// Name is as the client sent it; Create drops directories and whatever could
	// surprise a file system or a reader (control and reordering characters,
	// names of devices), and cuts it to 255 bytes.
	Name string
	// ContentType is as the client declared it.
	ContentType string
	Size        int64
	Open        func() (io.ReadCloser, error)
}

// CreateResult tells which task stands for the request.
type CreateResult struct {
	Task Task
	// Deduplicated says that the task was there already.
	Deduplicated bool
}

// handOverTimeout bounds what outlives the request: storing the task, handing
// it over, and cleaning up if that fails.
const handOverTimeout = 15 * time.Second

// create handles a request that AdmitCreate has admitted. It checks the caller's access
// again, since the body may have taken long to arrive.
func (e *Engine) create(ctx context.Context, auth AuthContext, req CreateRequest, compared func()) (res CreateResult, err error) {
	defer func() { err = e.orDraining(err) }()
	if err := e.admitCaller(ctx, &auth); err != nil {
		return CreateResult{}, err
	}
	req, err = e.prepare(ctx, auth, req)
	if err != nil {
		return CreateResult{}, err
	}
	task := Task{
		Type: req.TaskType, Owner: strings.Clone(auth.Subject), ClientRequestID: req.ClientRequestID,
		Input: req.Input, Metadata: req.Metadata, Attachments: declared(req.Files),
		Status: StatusAccepted,
	}
	if r := e.emitter.restarter; r != nil && e.emitter.holds != nil {
		task.Restartable, task.OpenWithin = r.Restartable(task.Type), e.cfg.Lease.TTL
	}
	if err := e.authorizeCreate(ctx, auth, task); err != nil {
		return CreateResult{}, err
	}
	if task.Attachments, err = e.digestFiles(ctx, req.Files); err != nil {
		return CreateResult{}, err
	}
	if task.Fingerprint, err = fingerprint(task.Type, task.Input, task.Attachments); err != nil {
		return CreateResult{}, NewError(CodeInternal, "could not compare the request").WithCause(err)
	}
	compared()

	// A repeat is answered before anything further may refuse it: its task
	// exists, whether or not there is room for another.
	existing, err := e.cfg.Store.Lookup(ctx, task.Owner, task.ClientRequestID)
	if err == nil {
		return e.deduplicate(existing, task.Fingerprint)
	}
	if CodeOf(err) != CodeTaskNotFound {
		return CreateResult{}, storeError("look the request up", err)
	}
	if err := e.volume.take(task.Owner, time.Now(), len(task.Input)+len(task.Metadata)); err != nil {
		return CreateResult{}, err
	}
	if !e.creates.enter() {
		return CreateResult{}, NewError(CodeServerDraining, "the server is shutting down")
	}
	defer e.creates.leave()
	return e.start(ctx, auth, task, req.Files)
}

// orDraining returns err, or SERVER_DRAINING if err comes from a store that the drain
// has closed.
func (e *Engine) orDraining(err error) error {
	if e.drained.Err() != nil && CodeOf(err) == CodeStoreUnavailable {
		return NewError(CodeServerDraining, "the server is shutting down").WithCause(err)
	}
	return err
}

// start admits, stores and hands over a task that was not there a moment ago.
func (e *Engine) start(ctx context.Context, auth AuthContext, task Task, files []File) (CreateResult, error) {
	if e.cfg.Executor == nil {
		return CreateResult{}, NewError(CodeTaskSubmission, "this server runs no tasks")
	}
	slot, err := e.cfg.Executor.Admit(ctx, TaskSpec{
		Type: task.Type, Owner: task.Owner, Input: task.Input, Attachments: len(task.Attachments),
	})
	if err != nil {
		var known *Error
		if errors.As(err, &known) {
			return CreateResult{}, known
		}
		return CreateResult{}, submissionError("the task was not admitted", err)
	}
	if slot == nil {
		return CreateResult{}, NewError(CodeInternal, "the executor admitted a task without a slot")
	}
	undo := slot.Release
	defer func() { undo() }()

	settle, err := e.allowUpload(ctx, auth, task)
	kept := false
	defer func() { settle(kept) }()
	if err != nil {
		return CreateResult{}, err
	}

	// From here on the client may go: what is half done is finished or undone.
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), handOverTimeout)
	defer done()
	if err := e.keepFiles(ctx, files, task.Attachments); err != nil {
		return CreateResult{}, err
	}
	task.CreatedAt = wireTime(time.Now())
	task.UpdatedAt = task.CreatedAt
	stored, became, err := e.insert(ctx, task)
	switch became {
	case isUnknown:
		later := settle
		undo, settle = func() {}, func(bool) {}
		e.learnLater(unsure{task: task, slot: slot, settle: later})
		return CreateResult{}, err
	case isAbsent:
		e.dropFiles(ctx, task.Attachments)
		return CreateResult{}, err
	case isAnother: // an equal call, or one that only looks so, was faster
		e.dropFiles(ctx, task.Attachments)
		return e.deduplicate(stored, task.Fingerprint)
	}
	kept, undo = true, func() {}
	if err := e.handOver(ctx, slot, stored); err != nil {
		return CreateResult{}, err
	}
	return CreateResult{Task: stored}, nil
}

// handOver submits a task that was stored, or fails it.
func (e *Engine) handOver(ctx context.Context, slot Slot, stored Task) error {
	if err := recovered("submitting a task", func() error { return slot.Submit(ctx, stored) }); err != nil {
		e.failSubmission(ctx, stored, err)
		return submissionError("the task could not be handed over", err)
	}
	e.cfg.Metrics.Add(MetricTaskStarts, 1, "")
	return nil
}

// insertion is what became of a task that was to be stored.
type insertion int

const (
	isUnknown insertion = iota
	isAbsent            // it was not stored
	isAnother           // what has its place is not ours
	isOurs
)

// insert stores task. An error of the store may mean that it was stored and
// the answer lost; then the task must be found and handed over, since nobody
// else will.
func (e *Engine) insert(ctx context.Context, task Task) (stored Task, became insertion, err error) {
	stored, created, err := e.cfg.Store.Create(ctx, task)
	switch {
	case err == nil && created:
		return stored, isOurs, nil
	case err == nil:
		return stored, isAnother, nil
	}
	found, became := e.find(ctx, task)
	if became == isUnknown || became == isAbsent {
		return Task{}, became, storeError("store the task", err)
	}
	return found, became, nil
}

// find looks for a task that may have been stored. CreatedAt tells our record
// from that of an equal request.
func (e *Engine) find(ctx context.Context, task Task) (found Task, became insertion) {
	found, err := e.cfg.Store.Lookup(ctx, task.Owner, task.ClientRequestID)
	switch {
	case CodeOf(err) == CodeTaskNotFound:
		return Task{}, isAbsent
	case err != nil:
		return Task{}, isUnknown
	case found.Fingerprint == task.Fingerprint && found.CreatedAt.Equal(task.CreatedAt):
		return found, isOurs
	}
	return found, isAnother
}

// deduplicate answers a request whose ClientRequestID has been used.
func (e *Engine) deduplicate(existing Task, fingerprint string) (CreateResult, error) {
	if existing.Fingerprint != fingerprint {
		return CreateResult{}, NewError(CodeIdempotency, "clientRequestId was used for another request")
	}
	e.cfg.Metrics.Add(MetricDuplicates, 1, "")
	return CreateResult{Task: existing, Deduplicated: true}, nil
}

// failTimeout bounds what failSubmission does: it may be that the time for
// handing over is what ran out.
const failTimeout = 5 * time.Second

// failSubmission ends a task that no executor took, so that nobody waits for it.
func (e *Engine) failSubmission(ctx context.Context, task Task, cause error) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), failTimeout)
	defer done()
	t, payload, err := e.cfg.Limits.encodePayload(Failed{
		Code: string(CodeTaskSubmission), Message: "the task could not be handed over", Retryable: true,
	})
	if err == nil {
		err = e.emitter.append(ctx, Append{
			TaskID: task.ID,
			Token:  "submission",
			Events: []Draft{{Type: t, CreatedAt: wireTime(time.Now()), Payload: payload}},
		})
	}
	if err != nil && CodeOf(err) != CodeTaskAlreadyTerminal {
		e.cfg.Logger.ErrorContext(ctx, "a task that could not be handed over could not be failed either",
			"taskId", task.ID, "error", err, "cause", cause)
	}
}

// submissionError is err as TASK_SUBMISSION_ERROR. What an executor says in its
// own *Error with that code is kept.
func submissionError(message string, err error) error {
	var known *Error
	if errors.As(err, &known) && known.Code == CodeTaskSubmission {
		return known
	}
	return NewError(CodeTaskSubmission, message).WithCause(err)
}

// prepare checks the client's request, lets the host change it, and checks what
// the host made of it. What it returns shares no memory with req.
func (e *Engine) prepare(ctx context.Context, auth AuthContext, req CreateRequest) (CreateRequest, error) {
	req, err := e.cfg.Limits.checkCreate(req)
	if err != nil || e.cfg.PrepareCreate == nil {
		return req, err
	}
	if err := e.cfg.PrepareCreate(ctx, auth, &req); err != nil {
		var known *Error
		if errors.As(err, &known) {
			return req, known
		}
		return req, NewError(CodeInternal, "the request could not be prepared").WithCause(err)
	}
	return e.cfg.Limits.checkCreate(req)
}

// attachmentField names an upload in an error.
func attachmentField(i int) string { return fmt.Sprintf("attachments[%d]", i) }
