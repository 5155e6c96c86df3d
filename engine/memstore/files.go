package memstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Put implements engine.AttachmentStore, in memory or in Config.Attachments.
func (s *Store) Put(ctx context.Context, name, contentType string, r io.Reader) (engine.Attachment, error) {
	if s.isClosed() {
		return engine.Attachment{}, errClosed()
	}
	return s.files.Put(ctx, name, contentType, r)
}

// Open implements engine.AttachmentStore. The error for what is not there
// wraps fs.ErrNotExist.
func (s *Store) Open(ctx context.Context, a engine.Attachment) (io.ReadCloser, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	return s.files.Open(ctx, a)
}

// Delete implements engine.AttachmentStore.
func (s *Store) Delete(ctx context.Context, a engine.Attachment) error {
	if s.isClosed() {
		return errClosed()
	}
	return s.files.Delete(ctx, a)
}

// memoryFiles keeps attachments in memory.
type memoryFiles struct {
	byRef   sync.Map // Ref → []byte
	reserve func(ctx context.Context, n int64) error
	release func(n int64)
}

func (m *memoryFiles) Put(ctx context.Context, name, contentType string, r io.Reader) (engine.Attachment, error) {
	buf := reservedBuffer{ctx: ctx, reserve: m.reserve}
	a, err := copyFile(ctx, &buf, name, contentType, r)
	if err != nil {
		m.release(buf.reserved)
		return engine.Attachment{}, err
	}
	data := bytes.Clone(buf.Bytes()) // without the buffer's slack
	m.release(buf.reserved - int64(len(data)))
	a.Ref = randomName()
	m.byRef.Store(a.Ref, data)
	return a, nil
}

func (m *memoryFiles) Open(_ context.Context, a engine.Attachment) (io.ReadCloser, error) {
	v, ok := m.byRef.Load(a.Ref)
	if !ok {
		return nil, errNoFile(fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(v.([]byte))), nil
}

func (m *memoryFiles) Delete(_ context.Context, a engine.Attachment) error {
	if v, ok := m.byRef.LoadAndDelete(a.Ref); ok {
		m.release(int64(len(v.([]byte))))
	}
	return nil
}

// reservedBuffer asks for room before it grows.
type reservedBuffer struct {
	bytes.Buffer
	ctx      context.Context // of the one Put that the buffer lives in
	reserve  func(ctx context.Context, n int64) error
	reserved int64
}

func (b *reservedBuffer) Write(p []byte) (int, error) {
	if err := b.reserve(b.ctx, int64(len(p))); err != nil {
		return 0, err
	}
	b.reserved += int64(len(p))
	return b.Buffer.Write(p)
}

// copyFile copies r to w and describes what it copied; Ref is left to the
// caller. It gives up when ctx ends.
func copyFile(ctx context.Context, w io.Writer, name, contentType string, r io.Reader) (engine.Attachment, error) {
	digest := sha256.New()
	// The struct hides any ReadFrom of w, so that every chunk passes ctx.
	n, err := io.Copy(struct{ io.Writer }{io.MultiWriter(w, digest)}, contextReader{ctx, r})
	if err != nil {
		var known *engine.Error
		if errors.As(err, &known) {
			return engine.Attachment{}, known
		}
		return engine.Attachment{}, engine.NewError(engine.CodeInternal, "the attachment could not be stored").WithCause(err)
	}
	return engine.Attachment{
		Name: baseName(name), ContentType: strings.Clone(contentType), Size: n,
		SHA256: hex.EncodeToString(digest.Sum(nil)),
	}, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// baseName drops directories, of either slash, and what only names one.
func baseName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	if name == "" || name == "." || name == ".." {
		return "file"
	}
	return strings.Clone(name)
}

func errNoFile(cause error) error {
	return engine.NewError(engine.CodeInternal, "the attachment is not there").WithCause(cause)
}

// inMemory counts the bytes of attachments that the store itself holds.
func (s *Store) inMemory(files []engine.Attachment) (n int64) {
	if _, own := s.files.(*memoryFiles); own {
		for i := range files {
			n += files[i].Size
		}
	}
	return n
}
