package engine

import (
	"context"
	"errors"
	"io"
)

// OpenAttachment reads a file that came with the task: one of
// Task().Attachments. It can be opened any number of times, on every node that
// shares the AttachmentStore. Close what it returns.
//
//	for _, a := range run.Task().Attachments {
//		file, err := run.OpenAttachment(ctx, a)
//		...
//		defer file.Close()
//	}
//
// Whether the whole file is there shows only at its end: Attachment.Size and
// SHA256 tell.
func (r *Run) OpenAttachment(ctx context.Context, a Attachment) (io.ReadCloser, error) {
	if r.em.files == nil {
		return nil, NewError(CodeInternal, "this process has no attachments")
	}
	file, err := r.em.files.Open(ctx, a)
	if err != nil {
		var known *Error
		if errors.As(err, &known) {
			return nil, known
		}
		return nil, NewError(CodeInternal, "the attachment could not be opened").WithCause(err)
	}
	return file, nil
}
