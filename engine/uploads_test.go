package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// uploadPolicy notes what it is asked, and what became of it.
type uploadPolicy struct {
	says    error
	asked   []engine.Upload
	settled []bool
}

func (p *uploadPolicy) AllowUpload(_ context.Context, auth engine.AuthContext, u engine.Upload) (func(bool), error) {
	if auth.Subject == "" {
		return nil, errors.New("nobody asks")
	}
	p.asked = append(p.asked, u)
	return func(kept bool) { p.settled = append(p.settled, kept) }, p.says
}

func TestUploadPolicy(t *testing.T) {
	ctx := context.Background()
	policy := &uploadPolicy{}
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Uploads = policy })
	r := request("r")
	r.Files = []engine.File{file("../a.txt", "text/plain", "hello"), file("b", "", "xx")}

	for _, c := range []struct {
		says error
		want engine.Code
	}{
		{&engine.Error{Code: engine.CodeRateLimited, RetryAfter: time.Minute}, engine.CodeRateLimited},
		{fmt.Errorf("asking: %w", unavailable), engine.CodeStoreUnavailable},
		{errors.New("secret"), engine.CodeInternal},
	} {
		policy.says = c.says
		_, err := w.Create(ctx, alice, r)
		wantCode(t, err, c.want)
	}
	if w.store.puts.Load() != 0 || w.exec.admitted != w.exec.released || w.exec.released != 3 {
		t.Errorf("refused, yet %d files were stored and %d of %d places given back", w.store.puts.Load(), w.exec.released, w.exec.admitted)
	}
	if fmt.Sprint(policy.settled) != "[false false false]" {
		t.Errorf("settled %v", policy.settled)
	}

	*policy = uploadPolicy{}
	res, err := w.Create(ctx, alice, r)
	if err != nil {
		t.Fatal(err)
	}
	u := policy.asked[0]
	if u.TaskType != "test" || u.ClientRequestID != "r" || u.Bytes() != 7 || len(u.Files) != 2 || u.Files[0].Name != "a.txt" || u.Files[0].SHA256 == "" {
		t.Errorf("asked about %+v", u)
	}
	// A repeat, and a request without files, are nothing to ask about.
	if again, err := w.Create(ctx, alice, r); err != nil || !again.Deduplicated || again.Task.ID != res.Task.ID {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := w.Create(ctx, alice, request("bare")); err != nil {
		t.Error(err)
	}
	// What could not be handed over is kept, with its task.
	w.exec.onSubmit = func(context.Context, engine.Task) error { return errors.New("gone") }
	r.ClientRequestID = "unsubmitted"
	_, err = w.Create(ctx, alice, r)
	wantCode(t, err, engine.CodeTaskSubmission)
	// What could not be stored is not.
	w.exec.onSubmit = nil
	w.store.set(func() { w.store.onCreate = nil })
	r.ClientRequestID = "broken"
	r.Files[1].Open = func() (io.ReadCloser, error) { return nil, errors.New("broken") }
	_, err = w.Create(ctx, alice, r)
	wantCode(t, err, engine.CodeInternal)
	if len(policy.asked) != 2 || fmt.Sprint(policy.settled) != "[true true]" {
		t.Errorf("asked %d times, settled %v", len(policy.asked), policy.settled)
	}
}

// A file that can be read once, for its digest, and not again is asked about,
// and given back.
func TestUploadPolicyNotKept(t *testing.T) {
	ctx := context.Background()
	policy := &uploadPolicy{}
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Uploads = policy })
	r := request("r")
	once := file("a", "t/t", "content")
	open, opened := once.Open, false
	once.Open = func() (io.ReadCloser, error) {
		if opened {
			return nil, errors.New("gone")
		}
		opened = true
		return open()
	}
	r.Files = []engine.File{once}
	_, err := w.Create(ctx, alice, r)
	wantCode(t, err, engine.CodeInternal)
	if fmt.Sprint(policy.settled) != "[false]" {
		t.Errorf("settled %v", policy.settled)
	}
}

func TestOpenAttachment(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	r := request("r")
	r.Files = []engine.File{file("a.txt", "text/plain", "hello")}
	res, err := w.Create(ctx, alice, r)
	if err != nil {
		t.Fatal(err)
	}
	run := w.open(t, res.Task)
	for range 2 {
		f, err := run.OpenAttachment(ctx, run.Task().Attachments[0])
		if err != nil {
			t.Fatal(err)
		}
		if content, err := io.ReadAll(f); err != nil || string(content) != "hello" {
			t.Errorf("%q, %v", content, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = run.OpenAttachment(ctx, engine.Attachment{Ref: "no such"})
	if wantCode(t, err, engine.CodeInternal); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// remoteFiles is an AttachmentStore that heeds its contexts, and hangs at its
// second Put.
type remoteFiles struct{ kept, puts int }

func (f *remoteFiles) Put(ctx context.Context, name, contentType string, r io.Reader) (engine.Attachment, error) {
	if f.puts++; f.puts == 2 {
		<-ctx.Done()
		return engine.Attachment{}, ctx.Err()
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return engine.Attachment{}, err
	}
	f.kept++
	digest := sha256.Sum256(content)
	return engine.Attachment{
		Name: name, ContentType: contentType, Size: int64(len(content)), SHA256: hex.EncodeToString(digest[:]), Ref: "r",
	}, nil
}

func (f *remoteFiles) Open(context.Context, engine.Attachment) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

func (f *remoteFiles) Delete(ctx context.Context, _ engine.Attachment) error {
	if ctx.Err() == nil {
		f.kept--
	}
	return ctx.Err()
}

// What was stored before the time was up is deleted all the same.
func TestUploadThatTakesTooLongLeavesNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := &remoteFiles{}
		w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Attachments = files })
		r := request("r")
		r.Files = []engine.File{file("a", "t/t", "content"), file("b", "t/t", "more")}
		if _, err := w.Create(context.Background(), alice, r); err == nil {
			t.Error("it was accepted")
		}
		if files.kept != 0 || files.puts != 2 {
			t.Errorf("%d files of %d are left", files.kept, files.puts)
		}
	})
}
