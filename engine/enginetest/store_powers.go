package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing/iotest"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var signalTests = []storeTest{
	{"a request reaches who listens", testSignalAfter, false},
	{"a request made before anyone listened is not lost", testSignalBefore, false},
	{"nobody is told twice, nor after stop", testSignalOnce, false},
	{"listening while others request", testSignalRace, false},
}

// listen returns a channel that gets every reason that fn is called with.
func (f *fixture) listen(node engine.Store, taskID string) (<-chan string, func()) {
	f.Helper()
	reasons := make(chan string, 8)
	ctx, cancel := context.WithCancel(f.ctx())
	defer cancel() // the call's context, not the listening's
	stop, err := node.(engine.Signals).Listen(ctx, taskID, func(s engine.Signal) { reasons <- s.CancelReason })
	if err != nil {
		f.Fatalf("Listen: %v", err)
	}
	return reasons, stop
}

func (f *fixture) wantReason(reasons <-chan string, want string) {
	f.Helper()
	eventually(f.T, "a signal", func() bool { return len(reasons) > 0 })
	if got := <-reasons; got != want {
		f.Errorf("the reason is %q, want %q", got, want)
	}
}

func testSignalAfter(f *fixture) {
	task, other := f.create(), f.create()
	here, stopHere := f.listen(f.store, task.ID)
	there, stopThere := f.listen(f.peer, task.ID)
	elsewhere, stopElsewhere := f.listen(f.store, other.ID)
	defer stopHere()
	defer stopThere()
	defer stopElsewhere()
	if _, err := f.peer.RequestCancel(f.ctx(), task.ID, "why"); err != nil {
		f.Fatal(err)
	}
	f.wantReason(here, "why")
	f.wantReason(there, "why")
	if len(elsewhere) != 0 {
		f.Error("another task's listener was called")
	}
}

func testSignalBefore(f *fixture) {
	task := f.create()
	if _, err := f.store.RequestCancel(f.ctx(), task.ID, "why"); err != nil {
		f.Fatal(err)
	}
	for _, node := range []engine.Store{f.store, f.peer} {
		reasons, stop := f.listen(node, task.ID)
		f.wantReason(reasons, "why")
		stop()
	}
}

func testSignalOnce(f *fixture) {
	task := f.create()
	reasons, stop := f.listen(f.store, task.ID)
	stopped, stopStopped := f.listen(f.store, task.ID)
	stopStopped()
	for i := range 5 {
		if _, err := f.store.RequestCancel(f.ctx(), task.ID, fmt.Sprint(i)); err != nil {
			f.Fatal(err)
		}
	}
	f.wantReason(reasons, "0")
	// A second listener is told by the same request: what the first ones still
	// had to get, they have.
	second, stopSecond := f.listen(f.store, task.ID)
	f.wantReason(second, "0")
	if len(reasons) != 0 || len(stopped) != 0 {
		f.Errorf("%d calls too many, %d after stop", len(reasons), len(stopped))
	}
	stop()
	stopSecond()
}

func testSignalRace(f *fixture) {
	for range 20 {
		task := f.create()
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := f.store.RequestCancel(f.ctx(), task.ID, "why"); err != nil {
				f.Error(err)
			}
		})
		for i := range 4 {
			node := []engine.Store{f.store, f.peer}[i%2]
			group.Go(func() {
				reasons, stop := f.listen(node, task.ID)
				f.wantReason(reasons, "why")
				stop()
			})
		}
		group.Wait()
	}
}

var attachmentTests = []storeTest{
	{"what is put comes back, described", testAttachment, false},
	{"a failed upload leaves nothing and says so", testAttachmentError, false},
	{"deleted is gone", testAttachmentDelete, false},
	{"they go with their task", testAttachmentErase, false},
}

func (f *fixture) put(name string, data []byte) engine.Attachment {
	f.Helper()
	a, err := f.store.(engine.AttachmentStore).Put(f.ctx(), name, "text/plain", iotest.HalfReader(bytes.NewReader(data)))
	if err != nil {
		f.Fatalf("Put: %v", err)
	}
	return a
}

func testAttachment(f *fixture) {
	files := f.peer.(engine.AttachmentStore)
	refs := map[string]bool{}
	for _, c := range []struct {
		name, base string
		data       []byte
	}{
		{"a.txt", "a.txt", []byte("hello")},
		{"a.txt", "a.txt", []byte("hello")},
		{"empty", "empty", nil},
		{"../../etc/passwd", "passwd", []byte("x")},
		{`C:\temp\b.bin`, "b.bin", bytes.Repeat([]byte{0, 0xff}, 1<<19)},
		{"ü ñ.txt", "ü ñ.txt", []byte("y")},
	} {
		a := f.put(c.name, c.data)
		digest := sha256.Sum256(c.data)
		if a.Name != c.base || a.ContentType != "text/plain" || a.Size != int64(len(c.data)) || a.SHA256 != hex.EncodeToString(digest[:]) {
			f.Errorf("%q became %+v", c.name, a)
		}
		if a.Ref == "" || refs[a.Ref] || strings.ContainsAny(a.Ref, `/\`) {
			f.Errorf("the ref of %q is %q", c.name, a.Ref)
		}
		refs[a.Ref] = true
		for range 2 {
			r, err := files.Open(f.ctx(), a)
			if err != nil {
				f.Fatalf("Open: %v", err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, c.data) {
				f.Errorf("%q came back with %d bytes, %v, want %d", c.name, len(got), err, len(c.data))
			}
			if err := r.Close(); err != nil {
				f.Error(err)
			}
		}
	}
}

func testAttachmentError(f *fixture) {
	files := f.store.(engine.AttachmentStore)
	broken := errors.New("the connection broke")
	_, err := files.Put(f.ctx(), "a", "text/plain", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		f.Errorf("Put gave %v, want the reader's error in its chain", err)
	}
	var coded *engine.Error
	if !errors.As(err, &coded) {
		f.Errorf("Put gave %T, want an *engine.Error", err)
	}
	tooLarge := engine.NewError(engine.CodeUploadValidation, "too large")
	_, err = files.Put(f.ctx(), "a", "text/plain", iotest.ErrReader(tooLarge))
	f.wantCode("Put from a reader with an *engine.Error", err, engine.CodeUploadValidation)
	ctx, cancel := context.WithCancel(f.ctx())
	cancel()
	if _, err := files.Put(ctx, "a", "text/plain", strings.NewReader("data")); err == nil {
		f.Error("Put with a context that has ended gave no error")
	}
}

func testAttachmentDelete(f *fixture) {
	files := f.store.(engine.AttachmentStore)
	a, b := f.put("a", []byte("a")), f.put("b", []byte("b"))
	for range 2 {
		if err := files.Delete(f.ctx(), a); err != nil {
			f.Errorf("Delete: %v", err)
		}
	}
	if r, err := files.Open(f.ctx(), a); err == nil {
		r.Close()
		f.Error("a deleted attachment can be opened")
	}
	r, err := files.Open(f.ctx(), b)
	if err != nil {
		f.Fatalf("another one is gone too: %v", err)
	}
	r.Close()
	for _, ref := range []string{"", "..", "../x", "/etc/passwd", "nothing"} {
		if r, err := files.Open(f.ctx(), engine.Attachment{Ref: ref}); err == nil {
			r.Close()
			f.Errorf("Open of %q gave no error", ref)
		}
		if err := files.Delete(f.ctx(), engine.Attachment{Ref: ref}); err != nil {
			f.Errorf("Delete of %q: %v", ref, err)
		}
	}
}

func testAttachmentErase(f *fixture) {
	draft := f.draftTask()
	draft.Attachments = []engine.Attachment{f.put("a", []byte("a")), f.put("b", []byte("b"))}
	task, _, err := f.store.Create(f.ctx(), draft)
	if err != nil {
		f.Fatal(err)
	}
	if err := f.store.Erase(f.ctx(), task.ID); err != nil {
		f.Fatal(err)
	}
	for _, a := range draft.Attachments {
		eventually(f.T, "the attachments are gone", func() bool {
			r, err := f.store.(engine.AttachmentStore).Open(f.ctx(), a)
			if err == nil {
				r.Close()
			}
			return err != nil
		})
	}
}

func testReady(f *fixture) {
	probe := f.store.(engine.ReadinessProbe)
	if probe.Name() == "" {
		f.Error("the probe has no name")
	}
	if err := probe.Ready(f.ctx()); err != nil {
		f.Errorf("an open store is not ready: %v", err)
	}
}

func testClose(f *fixture) {
	task := f.create()
	c, stop := f.follow(f.store, task.ID, engine.EventID{})
	_ = c
	for range 2 {
		if err := f.store.(io.Closer).Close(); err != nil {
			f.Errorf("Close: %v", err)
		}
	}
	stop() // still returns
	if f.peer != f.store {
		return
	}
	for op, err := range operations(f, f.store, task.ID) {
		f.wantCode(op+" after Close", err, engine.CodeStoreUnavailable)
	}
	_, _, err := f.store.Create(f.ctx(), f.draftTask())
	f.wantCode("Create after Close", err, engine.CodeStoreUnavailable)
}
