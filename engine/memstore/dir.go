package memstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Dir is an engine.AttachmentStore on a directory of the local file system.
// Give it to Config.Attachments, and files go when their tasks do. It is safe
// for concurrent use, by several processes too.
//
// A Dir does not know which tasks exist: what a process leaves there when it
// dies is the host's to clear.
type Dir struct{ path string }

var _ engine.AttachmentStore = (*Dir)(nil)

// NewDir returns a Dir on path, which is made (mode 0700) if it is missing.
func NewDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return &Dir{path}, nil
}

// Put implements engine.AttachmentStore. The file is on disk when it returns;
// its name there is random and has nothing of the client's in it.
func (d *Dir) Put(ctx context.Context, name, contentType string, r io.Reader) (engine.Attachment, error) {
	ref := randomName()
	final := filepath.Join(d.path, ref)
	partial := final + ".partial"
	a, err := d.write(ctx, partial, name, contentType, r)
	if err == nil {
		if err = d.settle(partial, final); err != nil {
			err = engine.NewError(engine.CodeInternal, "the attachment could not be stored").WithCause(err)
		}
	}
	if err != nil {
		// Whichever of the two is there; nothing stays.
		_ = os.Remove(partial)
		_ = os.Remove(final)
		return engine.Attachment{}, err
	}
	a.Ref = ref
	return a, nil
}

func (d *Dir) write(ctx context.Context, path, name, contentType string, r io.Reader) (engine.Attachment, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return engine.Attachment{}, engine.NewError(engine.CodeInternal, "the attachment could not be stored").WithCause(err)
	}
	a, err := copyFile(ctx, f, name, contentType, r)
	if err != nil {
		_ = f.Close()
		return engine.Attachment{}, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return engine.Attachment{}, engine.NewError(engine.CodeInternal, "the attachment could not be stored").WithCause(err)
	}
	return a, nil
}

// settle gives the file its name, durably.
func (d *Dir) settle(partial, final string) error {
	if err := os.Rename(partial, final); err != nil {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open implements engine.AttachmentStore. The error for what is not there
// wraps fs.ErrNotExist.
func (d *Dir) Open(_ context.Context, a engine.Attachment) (io.ReadCloser, error) {
	path, ok := d.locate(a.Ref)
	if !ok {
		return nil, errNoFile(fs.ErrNotExist)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errNoFile(err)
	}
	return f, nil
}

// Delete implements engine.AttachmentStore.
func (d *Dir) Delete(_ context.Context, a engine.Attachment) error {
	path, ok := d.locate(a.Ref)
	if !ok {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return engine.NewError(engine.CodeInternal, "the attachment could not be deleted").WithCause(err)
	}
	return nil
}

// locate returns the path of ref if it is a name that Put can have made.
func (d *Dir) locate(ref string) (string, bool) {
	if len(ref) != 32 {
		return "", false
	}
	for i := range len(ref) {
		if c := ref[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", false
		}
	}
	return filepath.Join(d.path, ref), true
}
