package engine

import (
	"context"
	"errors"
	"time"
)

// CreateHead is what a transport knows of a create request before it has read
// the body.
type CreateHead struct {
	// Form says that the request may bring files.
	Form bool
	// Length is the length of the body in bytes as the header says it, negative if
	// the header does not.
	Length int64
}

// FormPolicy is an optional power of an [UploadPolicy]: it is also asked before a form
// has arrived.
type FormPolicy interface {
	// AllowForm is asked about each form, repeats included, before its body is
	// read. length is what the header says, negative if it does not. With a nil
	// error the body is read, and then AllowUpload is asked. An *Error refuses the
	// form and is the answer; any other error is an INTERNAL_ERROR. AllowForm may be
	// called concurrently, and reserves nothing.
	AllowForm(ctx context.Context, auth AuthContext, length int64) error
}

// Creation is a create request that AdmitCreate has admitted. Use it for one Create.
type Creation struct {
	// Compared, if it is set, is called by Create when the work on the request's
	// text is done, before the store and the executor are asked. It is not called
	// for a request that is refused before.
	Compared func()

	e    *Engine
	auth AuthContext
}

// AdmitCreate is the first half of Create. It decides what can be decided before a
// transport has read the body. The request counts for Config.Creates even if it is
// refused later.
//
// Errors: AUTHENTICATION_ERROR; RATE_LIMITED beyond Config.Creates; what the
// UploadPolicy says if it is a FormPolicy; STORE_UNAVAILABLE.
func (e *Engine) AdmitCreate(ctx context.Context, auth AuthContext, head CreateHead) (*Creation, error) {
	if err := e.admitCaller(ctx, &auth); err != nil {
		return nil, e.orDraining(err)
	}
	if err := e.rate.take(auth.Subject, time.Now(), 1); err != nil {
		return nil, err
	}
	if e.forms != nil && head.Form {
		if err := e.forms.AllowForm(ctx, auth, head.Length); err != nil {
			var known *Error
			if errors.As(err, &known) {
				return nil, known
			}
			return nil, NewError(CodeInternal, "the form could not be decided on").WithCause(err)
		}
	}
	return &Creation{e: e, auth: auth}, nil
}

// Create starts a task, or finds the one that an equal request of the same
// subject started.
//
// Errors: REQUEST_VALIDATION_ERROR with fields; INVALID_REQUEST from the
// executor; TASK_OWNERSHIP_ERROR; IDEMPOTENCY_CONFLICT if the same
// ClientRequestID came with another request; UPLOAD_VALIDATION_ERROR for files
// that cannot be kept; what the UploadPolicy says; RATE_LIMITED beyond
// Config.Creates, which counts every request; TASK_SUBMISSION_ERROR,
// SERVER_DRAINING, STORE_UNAVAILABLE. Only a hand-over that fails after the task
// was stored leaves a task behind: it is FAILED and its log says so.
//
// Once it begins to store the task, Create goes on even if ctx ends. After
// STORE_UNAVAILABLE the task may have been stored: repeating the request is safe
// and finds it, and the engine hands it over as soon as it knows.
func (e *Engine) Create(ctx context.Context, auth AuthContext, req CreateRequest) (CreateResult, error) {
	head := CreateHead{Form: len(req.Files) > 0}
	for i := range req.Files {
		head.Length += req.Files[i].Size
	}
	c, err := e.AdmitCreate(ctx, auth, head)
	if err != nil {
		return CreateResult{}, err
	}
	return c.Create(ctx, req)
}

// Create is the second half of Engine.Create.
func (c *Creation) Create(ctx context.Context, req CreateRequest) (CreateResult, error) {
	compared := c.Compared
	if compared == nil {
		compared = func() {}
	}
	return c.e.create(ctx, c.auth, req, compared)
}
