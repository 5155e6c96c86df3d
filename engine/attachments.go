package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"
)

// declared lists files as far as the client told about them.
func declared(files []File) []Attachment {
	if len(files) == 0 {
		return nil
	}
	out := make([]Attachment, len(files))
	for i, f := range files {
		out[i] = Attachment{Name: f.Name, ContentType: f.ContentType, Size: f.Size}
	}
	return out
}

// digestFiles reads every file once, for its size and digest.
func (e *Engine) digestFiles(ctx context.Context, files []File) ([]Attachment, error) {
	if len(files) > 0 && e.cfg.Attachments == nil {
		return nil, NewError(CodeUploadValidation, "this server takes no attachments")
	}
	out := declared(files)
	for i, f := range files {
		h := sha256.New()
		n, err := readFile(ctx, f, h)
		if err != nil {
			return nil, Errorf(CodeInternal, "could not read %s", attachmentField(i)).WithCause(err)
		}
		out[i].Size, out[i].SHA256 = n, hex.EncodeToString(h.Sum(nil))
	}
	return out, nil
}

func readFile(ctx context.Context, f File, to io.Writer) (int64, error) {
	if f.Open == nil {
		return 0, errors.New("File.Open is nil")
	}
	r, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(to, cancellable{ctx, r})
}

// cancellable is a reader that ends with ctx.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// keepFiles puts every file into the attachment store and fills in what that
// calls it. On an error none stays.
func (e *Engine) keepFiles(ctx context.Context, files []File, attachments []Attachment) error {
	for i, f := range files {
		kept, err := e.keepFile(ctx, f, attachments[i])
		if err != nil {
			e.dropFiles(ctx, attachments[:i])
			return fileError(i, err)
		}
		attachments[i] = kept
	}
	return nil
}

func (e *Engine) keepFile(ctx context.Context, f File, want Attachment) (Attachment, error) {
	r, err := f.Open()
	if err != nil {
		return Attachment{}, err
	}
	defer r.Close()
	kept, err := e.cfg.Attachments.Put(ctx, want.Name, want.ContentType, cancellable{ctx, r})
	if err != nil {
		return Attachment{}, err
	}
	if kept.SHA256 != want.SHA256 || kept.Size != want.Size {
		e.dropFiles(ctx, []Attachment{kept})
		return Attachment{}, fmt.Errorf("the second reading gave %d bytes with digest %s, the first %d with %s",
			kept.Size, kept.SHA256, want.Size, want.SHA256)
	}
	return kept, nil
}

func fileError(i int, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return Errorf(CodeInternal, "could not store %s", attachmentField(i)).WithCause(err)
}

// dropTimeout bounds the deletion of what was stored in vain.
const dropTimeout = 5 * time.Second

// dropFiles deletes attachments of a task that did not come to be, also if that
// is because ctx has ended.
func (e *Engine) dropFiles(ctx context.Context, attachments []Attachment) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer done()
	for _, a := range attachments {
		if err := e.cfg.Attachments.Delete(ctx, a); err != nil {
			e.cfg.Logger.WarnContext(ctx, "an attachment of a refused request was not deleted",
				"ref", a.Ref, "error", err)
		}
	}
}
