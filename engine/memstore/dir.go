package memstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Dir is an engine.AttachmentStore on a directory of the local file system.
// Give it to Config.Attachments, and files go when their tasks do. It is safe
// for concurrent use, by several processes too.
//
// A file is there under its name only when it is whole; a process that dies
// while it writes one leaves a partial file, which a later Put or NewDir removes.
// A Dir does not know which tasks exist: files of an embedded store that ended,
// and those whose records expired in Redis while no process ran, go with
// RemoveOlderThan.
type Dir struct {
	path string
	// swept is when partial files were last looked for, in Unix seconds.
	swept atomic.Int64
}

const (
	partialSuffix = ".partial"
	// partialAge is when nobody writes to a partial file any more, whoever it
	// belongs to: other processes use the directory too.
	partialAge = time.Hour
)

var _ engine.AttachmentStore = (*Dir)(nil)

// NewDir returns a Dir on path, which is made (mode 0700) if it is missing.
// Partial files that nobody has written to for an hour are removed.
func NewDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &Dir{path: path}
	if err := d.sweep(context.Background()); err != nil {
		return nil, err
	}
	return d, nil
}

// sweep removes what processes that died have left half written, if that was
// not done for a while.
func (d *Dir) sweep(ctx context.Context) error {
	now, last := time.Now().Unix(), d.swept.Load()
	if now-last < int64(partialAge/time.Second) || !d.swept.CompareAndSwap(last, now) {
		return nil
	}
	_, err := d.remove(ctx, func(name string, age time.Duration) bool {
		ref, partial := strings.CutSuffix(name, partialSuffix)
		return partial && isRef(ref) && age > partialAge
	})
	return err
}

// RemoveOlderThan removes files that were stored longer ago than age and
// returns how many. A host whose tasks do not take their files with them when
// they expire calls it now and then, with an age that no task reaches (on Redis
// MaxOpenAge, StreamTTL and RecordTTL together). Files of other names stay.
func (d *Dir) RemoveOlderThan(ctx context.Context, age time.Duration) (int, error) {
	if age <= 0 {
		return 0, errors.New("memstore: RemoveOlderThan needs a positive age")
	}
	return d.remove(ctx, func(name string, old time.Duration) bool { return isRef(name) && old > age })
}

func (d *Dir) remove(ctx context.Context, condemned func(name string, age time.Duration) bool) (removed int, err error) {
	dir, err := os.Open(d.path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256) // the directory may be large
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil || !info.Mode().IsRegular() || !condemned(entry.Name(), time.Since(info.ModTime())) {
				continue // gone meanwhile, or not ours
			}
			err = os.Remove(filepath.Join(d.path, entry.Name()))
			switch {
			case err == nil:
				removed++
			case !errors.Is(err, fs.ErrNotExist):
				return removed, err
			}
		}
		if errors.Is(err, io.EOF) {
			return removed, nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return removed, err
		}
	}
}

// Put implements engine.AttachmentStore. The file is on disk when it returns;
// its name there is random and has nothing of the client's in it.
func (d *Dir) Put(ctx context.Context, name, contentType string, r io.Reader) (engine.Attachment, error) {
	_ = d.sweep(ctx) // a directory that cannot be swept is seen below, or at the next start
	ref := randomName()
	final := filepath.Join(d.path, ref)
	partial := final + partialSuffix
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
	return filepath.Join(d.path, ref), isRef(ref)
}

func isRef(name string) bool {
	if len(name) != 32 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
