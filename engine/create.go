package engine

import (
	"context"
	"encoding/json"
	"io"
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
	// Name is as the client sent it; Create strips directories.
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

// Create starts a task, or finds the one that an equal request of the same
// subject started.
//
// Errors: REQUEST_VALIDATION_ERROR with fields; INVALID_REQUEST from the
// executor; TASK_OWNERSHIP_ERROR; IDEMPOTENCY_CONFLICT if the same
// ClientRequestID came with another request; TASK_SUBMISSION_ERROR,
// SERVER_DRAINING, STORE_UNAVAILABLE. Only a hand-over that fails after the
// task was stored leaves a task behind: it is FAILED and its log says so.
func (e *Engine) Create(ctx context.Context, auth AuthContext, req CreateRequest) (CreateResult, error) {
	panic("unwritten")
}
