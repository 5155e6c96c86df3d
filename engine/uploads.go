package engine

import (
	"context"
	"errors"
)

// UploadPolicy decides whether a caller may bring the files of a create
// request: quotas, rates, what a task type takes. The limits that hold for
// everybody (how many, how large, which types) are the transport's. It may be
// called concurrently. If it is a [FormPolicy] it is also asked before a form has
// arrived.
type UploadPolicy interface {
	// AllowUpload is asked once for each request with files that would make a
	// new task, after the OwnershipPolicy and the executor have agreed and
	// before anything is stored; repeats of a request that was accepted are
	// answered without it. An *Error refuses and is the answer (RATE_LIMITED
	// with RetryAfter, UPLOAD_VALIDATION_ERROR with Fields); any other error is
	// an INTERNAL_ERROR. A refused request leaves no file and no task.
	//
	// settle, which may be nil, is called once when the request is over, from
	// the same goroutine (or later, from another, if the store failed and could
	// not tell what became of the task), so that what was reserved can be given
	// back: kept
	// says that a task holds the files now, also one that could not be handed
	// over. Not kept are those of a request that failed, or of one that an
	// equal one overtook. The AttachmentStore sees it when they are deleted.
	AllowUpload(ctx context.Context, auth AuthContext, u Upload) (settle func(kept bool), err error)
}

// UploadFunc is a function as an UploadPolicy that reserves nothing.
type UploadFunc func(ctx context.Context, auth AuthContext, u Upload) error

// AllowUpload calls f.
func (f UploadFunc) AllowUpload(ctx context.Context, auth AuthContext, u Upload) (func(bool), error) {
	return nil, f(ctx, auth, u)
}

// Upload is what an UploadPolicy is asked about.
type Upload struct {
	TaskType        string
	ClientRequestID string
	// Files have everything but Ref: name, type, size and digest as they will
	// be stored. They must not be written to.
	Files []Attachment
}

// Bytes is the size of all files.
func (u Upload) Bytes() int64 {
	var sum int64
	for _, f := range u.Files {
		sum += f.Size
	}
	return sum
}

// AcceptsFiles reports whether there is anywhere to keep uploads.
func (e *Engine) AcceptsFiles() bool { return e.cfg.Attachments != nil }

// allowUpload asks the policy about the files of a new task. settle is never nil.
func (e *Engine) allowUpload(ctx context.Context, auth AuthContext, task Task) (settle func(kept bool), err error) {
	settle = func(bool) {}
	if e.cfg.Uploads == nil || len(task.Attachments) == 0 {
		return settle, nil
	}
	s, err := e.cfg.Uploads.AllowUpload(ctx, auth, Upload{
		TaskType: task.Type, ClientRequestID: task.ClientRequestID, Files: task.Attachments,
	})
	if s != nil {
		settle = s
	}
	var known *Error
	switch {
	case err == nil:
		return settle, nil
	case errors.As(err, &known):
		return settle, known
	}
	return settle, NewError(CodeInternal, "the upload could not be decided on").WithCause(err)
}
