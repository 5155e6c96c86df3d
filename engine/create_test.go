package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

func TestCreate(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	input := []byte("{\n\"a\": [1, 2.50]\n}")
	res, err := w.Create(ctx, alice, engine.CreateRequest{
		ClientRequestID: "r", TaskType: "test", Input: input,
		Files: []engine.File{file(`C:\dir\a.txt`, "text/plain", "hello"), file("../../etc/passwd", "", "")},
	})
	if err != nil {
		t.Fatal(err)
	}
	copy(input, strings.Repeat("x", len(input))) // the request's memory is used again
	task := res.Task
	if res.Deduplicated || task.Status != engine.StatusAccepted || task.Owner != "alice" || task.ClientRequestID != "r" ||
		string(task.Input) != `{"a":[1,2.50]}` || string(task.Metadata) != `{}` || task.CreatedAt.IsZero() || !task.CreatedAt.Equal(task.UpdatedAt) {
		t.Errorf("%+v", task)
	}
	if len(task.Attachments) != 2 || task.Attachments[0].Name != "a.txt" || task.Attachments[0].Size != 5 ||
		task.Attachments[1].Name != "passwd" || task.Attachments[1].ContentType != "application/octet-stream" {
		t.Errorf("attachments: %+v", task.Attachments)
	}
	r, err := w.store.Open(ctx, task.Attachments[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, _ := io.ReadAll(r); string(b) != "hello" {
		t.Errorf("attachment: %q", b)
	}
	if len(w.exec.submitted) != 1 || !reflect.DeepEqual(w.exec.submitted[0], task) {
		t.Errorf("submitted %+v", w.exec.submitted)
	}

	// The same again, in other words.
	w.emit(t, task, engine.Started{})
	again, err := w.Create(ctx, alice, engine.CreateRequest{
		ClientRequestID: "r", TaskType: "test", Input: json.RawMessage(`{"a":[1.0,25e-1]}`), Metadata: json.RawMessage(`{"x":1}`),
		Files: []engine.File{file("a.txt", "text/plain", "hello"), file("passwd", "application/octet-stream", "")},
	})
	if err != nil || !again.Deduplicated || again.Task.ID != task.ID || again.Task.Status != engine.StatusRunning {
		t.Errorf("repeat: %+v, %v", again, err)
	}
	// Another one under the same name.
	_, err = w.Create(ctx, alice, engine.CreateRequest{ClientRequestID: "r", TaskType: "test", Input: json.RawMessage(`{"a":[1,2.5]}`)})
	wantCode(t, err, engine.CodeIdempotency)
	// Somebody else's names are not ours.
	other, err := w.Create(ctx, bob, engine.CreateRequest{ClientRequestID: "r", TaskType: "test"})
	if err != nil || other.Deduplicated || other.Task.ID == task.ID {
		t.Errorf("bob: %+v, %v", other, err)
	}
	if n := w.metrics.get(engine.MetricTaskStarts, ""); n != 2 {
		t.Errorf("%d starts counted", n)
	}
	if n := w.metrics.get(engine.MetricDuplicates, ""); n != 1 {
		t.Errorf("%d duplicates counted", n)
	}
	if w.store.puts.Load() != 2 {
		t.Errorf("%d files stored, want 2", w.store.puts.Load())
	}
}

func TestCreateValidation(t *testing.T) {
	w := newWorld(t)
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	for _, c := range []struct {
		name   string
		change func(*engine.CreateRequest)
		fields []string
	}{
		{"no id", func(r *engine.CreateRequest) { r.ClientRequestID = "" }, []string{"clientRequestId"}},
		{"long id", func(r *engine.CreateRequest) { r.ClientRequestID = strings.Repeat("é", 256) }, []string{"clientRequestId"}},
		{"id with a line feed", func(r *engine.CreateRequest) { r.ClientRequestID = "a\r\nX-Evil: 1" }, []string{"clientRequestId"}},
		{"id that is no text", func(r *engine.CreateRequest) { r.ClientRequestID = "a\xff" }, []string{"clientRequestId"}},
		{"id with NUL", func(r *engine.CreateRequest) { r.ClientRequestID = "a\x00" }, []string{"clientRequestId"}},
		{"no type", func(r *engine.CreateRequest) { r.TaskType = "" }, []string{"taskType"}},
		{"long type", func(r *engine.CreateRequest) { r.TaskType = strings.Repeat("x", 256) }, []string{"taskType"}},
		{"a list", func(r *engine.CreateRequest) { r.Input = json.RawMessage(`[]`) }, []string{"input"}},
		{"null", func(r *engine.CreateRequest) { r.Input = json.RawMessage(`null`) }, []string{"input"}},
		{"not JSON", func(r *engine.CreateRequest) { r.Input = json.RawMessage(`{"a":}`) }, []string{"input"}},
		{"not UTF-8", func(r *engine.CreateRequest) { r.Input = json.RawMessage("{\"a\":\"\xff\"}") }, []string{"input"}},
		{"deep", func(r *engine.CreateRequest) { r.Input = json.RawMessage(deep) }, []string{"input"}},
		{"large", func(r *engine.CreateRequest) {
			r.Input = json.RawMessage(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`)
		}, []string{"input"}},
		{"metadata", func(r *engine.CreateRequest) { r.Metadata = json.RawMessage(`"x"`) }, []string{"metadata"}},
		{"file name", func(r *engine.CreateRequest) { r.Files = []engine.File{file("a\xffb", "t/t", "")} }, []string{"attachments[0].name"}},
		{"file type", func(r *engine.CreateRequest) { r.Files = []engine.File{file("a", "t/t\r\nX: y", "")} }, []string{"attachments[0].contentType"}},
		{"everything", func(r *engine.CreateRequest) { *r = engine.CreateRequest{Input: json.RawMessage(`1`)} },
			[]string{"clientRequestId", "taskType", "input"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request("r")
			c.change(&r)
			_, err := w.Create(context.Background(), alice, r)
			e := wantCode(t, err, engine.CodeRequestValidation)
			var got []string
			for _, f := range e.Fields {
				got = append(got, f.Field)
			}
			if !slices.Equal(got, c.fields) {
				t.Errorf("fields %v, want %v", got, c.fields)
			}
		})
	}
	r := request(strings.Repeat("é", 255))
	r.TaskType = strings.Repeat("😀", 255)
	r.Files = []engine.File{file(`a\..`, "", "")}
	if res, err := w.Create(context.Background(), alice, r); err != nil || res.Task.Attachments[0].Name != "file" {
		t.Errorf("the longest: %+v, %v", res, err)
	}
	_, err := w.Create(context.Background(), engine.AuthContext{}, request("r"))
	wantCode(t, err, engine.CodeAuthentication)
}

// Fifty equal creates at once, with a file each, make one task and keep one file.
func TestCreateTogether(t *testing.T) {
	w := newWorld(t)
	const n = 50
	results, errs := make([]engine.CreateResult, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := request("r")
			r.Files = []engine.File{file("a", "t/t", "content")}
			results[i], errs[i] = w.Create(context.Background(), alice, r)
		})
	}
	wg.Wait()
	created := 0
	for i := range n {
		if errs[i] != nil || results[i].Task.ID != results[0].Task.ID {
			t.Fatalf("%+v, %v", results[i], errs[i])
		}
		if !results[i].Deduplicated {
			created++
		}
	}
	if created != 1 || len(w.exec.submitted) != 1 || w.exec.admitted != w.exec.released+1 {
		t.Errorf("%d created, %d submitted, %d admitted, %d released", created, len(w.exec.submitted), w.exec.admitted, w.exec.released)
	}
	if kept := w.store.puts.Load() - w.store.deletes.Load(); kept != 1 {
		t.Errorf("%d files kept", kept)
	}
}

// Two different requests under one name, at once: one wins, one conflicts.
func TestCreateLosesARace(t *testing.T) {
	w := newWorld(t)
	first, err := w.Create(context.Background(), alice, request("r"))
	if err != nil {
		t.Fatal(err)
	}
	w.store.set(func() {
		w.store.onLookup = func() error { return engine.NewError(engine.CodeTaskNotFound, "not yet") }
	})
	r := request("r")
	if res, err := w.Create(context.Background(), alice, r); err != nil || !res.Deduplicated || res.Task.ID != first.Task.ID {
		t.Errorf("equal: %+v, %v", res, err)
	}
	r.Files = []engine.File{file("a", "t/t", "content")}
	_, err = w.Create(context.Background(), alice, r)
	wantCode(t, err, engine.CodeIdempotency)
	if w.exec.admitted != 3 || w.exec.released != 2 || len(w.exec.submitted) != 1 {
		t.Errorf("%d admitted, %d released, %d submitted", w.exec.admitted, w.exec.released, len(w.exec.submitted))
	}
	if w.store.puts.Load() != 1 || w.store.deletes.Load() != 1 {
		t.Errorf("%d files stored, %d deleted", w.store.puts.Load(), w.store.deletes.Load())
	}
}

func TestCreateRefused(t *testing.T) {
	ctx := context.Background()
	invalid := engine.NewError(engine.CodeInvalidRequest, "unknown task type")
	full := engine.NewError(engine.CodeTaskSubmission, "full")
	for _, c := range []struct {
		name string
		how  error
		want engine.Code
	}{
		{"invalid", invalid, engine.CodeInvalidRequest},
		{"full", full, engine.CodeTaskSubmission},
		{"a plain error", errors.New("secret"), engine.CodeTaskSubmission},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			before, err := w.Create(ctx, alice, request("before"))
			if err != nil {
				t.Fatal(err)
			}
			w.exec.onAdmit = func(engine.TaskSpec) error { return c.how }
			r := request("r")
			r.Files = []engine.File{file("a", "t/t", "content")}
			_, err = w.Create(ctx, alice, r)
			if e := wantCode(t, err, c.want); strings.Contains(e.Message, "secret") {
				t.Errorf("the cause is shown: %s", e.Message)
			}
			if w.store.puts.Load() != 0 {
				t.Error("a file was stored")
			}
			if _, err := w.store.Lookup(ctx, "alice", "r"); engine.CodeOf(err) != engine.CodeTaskNotFound {
				t.Errorf("a task is left behind: %v", err)
			}
			// What was there is still found.
			if res, err := w.Create(ctx, alice, request("before")); err != nil || !res.Deduplicated || res.Task.ID != before.Task.ID {
				t.Errorf("repeat while refusing: %+v, %v", res, err)
			}
			w.exec.onAdmit = nil
			if res, err := w.Create(ctx, alice, r); err != nil || res.Deduplicated {
				t.Errorf("the same request later: %+v, %v", res, err)
			}
		})
	}
}

func TestCreateWhileDraining(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task, err := w.Create(ctx, alice, request("r"))
	if err != nil {
		t.Fatal(err)
	}
	w.Drain()
	_, err = w.Create(ctx, alice, request("new"))
	wantCode(t, err, engine.CodeServerDraining)
	if res, err := w.Create(ctx, alice, request("r")); err != nil || res.Task.ID != task.Task.ID {
		t.Errorf("repeat: %+v, %v", res, err)
	}
	if w.Ready(ctx)["engine"] == nil {
		t.Error("a draining engine is ready")
	}
}

func TestCreateWithoutExecutorOrStoreForFiles(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Executor = nil })
	_, err := w.Create(ctx, alice, request("r"))
	wantCode(t, err, engine.CodeTaskSubmission)

	bare := newWorld(t)
	eng, err := engine.New(engine.Config{Store: struct{ engine.Store }{bare.store}, Executor: bare.exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Shutdown(ctx)
	r := request("r")
	r.Files = []engine.File{file("a", "t/t", "content")}
	_, err = eng.Create(ctx, alice, r)
	wantCode(t, err, engine.CodeUploadValidation)
}

func TestCreateDenied(t *testing.T) {
	ctx := context.Background()
	var says error
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) {
		c.Ownership = engine.OwnershipFunc(func(_ context.Context, _ engine.AuthContext, a engine.Access, task engine.Task) error {
			if a != engine.AccessCreate || task.ID != "" || task.Type != "test" {
				t.Errorf("asked for %s of %+v", a, task)
			}
			return says
		})
	})
	for _, c := range []struct {
		says error
		want engine.Code
	}{
		{errors.New("secret"), engine.CodeTaskOwnership},
		{engine.NewError(engine.CodeTaskNotFound, "x"), engine.CodeTaskOwnership},
		{engine.NewError(engine.CodeRateLimited, "x"), engine.CodeRateLimited},
		{fmt.Errorf("asking: %w", unavailable), engine.CodeStoreUnavailable},
	} {
		says = c.says
		_, err := w.Create(ctx, alice, request("r"))
		if e := wantCode(t, err, c.want); strings.Contains(e.Message, "secret") {
			t.Errorf("the cause is shown: %s", e.Message)
		}
	}
	// Nobody allows anything by default.
	eng, err := engine.New(engine.Config{Store: w.store, Executor: w.exec})
	if err != nil {
		t.Fatal(err)
	}
	_, err = eng.Create(ctx, alice, request("r"))
	wantCode(t, err, engine.CodeTaskOwnership)
	if err := eng.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestCreatePrepared(t *testing.T) {
	ctx := context.Background()
	var prepare func(*engine.CreateRequest) error
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) {
		c.PrepareCreate = func(_ context.Context, auth engine.AuthContext, r *engine.CreateRequest) error {
			if auth.Subject != "alice" || len(r.Metadata) == 0 {
				t.Errorf("%+v %+v", auth, r)
			}
			return prepare(r)
		}
	})
	prepare = func(r *engine.CreateRequest) error {
		r.Input = json.RawMessage(`{ "changed": true }`)
		return nil
	}
	res, err := w.Create(ctx, alice, request("r"))
	if err != nil || string(res.Task.Input) != `{"changed":true}` {
		t.Errorf("%+v, %v", res, err)
	}
	prepare = func(r *engine.CreateRequest) error { r.TaskType = ""; return nil }
	_, err = w.Create(ctx, alice, request("r2"))
	wantCode(t, err, engine.CodeRequestValidation)
	prepare = func(*engine.CreateRequest) error { return engine.NewError(engine.CodeRateLimited, "later") }
	_, err = w.Create(ctx, alice, request("r2"))
	wantCode(t, err, engine.CodeRateLimited)
	prepare = func(*engine.CreateRequest) error { return errors.New("secret") }
	_, err = w.Create(ctx, alice, request("r2"))
	if e := wantCode(t, err, engine.CodeInternal); strings.Contains(e.Message, "secret") {
		t.Errorf("the cause is shown: %s", e.Message)
	}
}

func TestCreateSubmitFails(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.exec.onSubmit = func(context.Context, engine.Task) error { return errors.New("secret") }
	_, err := w.Create(ctx, alice, request("r"))
	if e := wantCode(t, err, engine.CodeTaskSubmission); strings.Contains(e.Message, "secret") {
		t.Errorf("the cause is shown: %s", e.Message)
	}
	task, err := w.store.Lookup(ctx, "alice", "r")
	if err != nil || task.Status != engine.StatusFailed || task.Terminal == nil {
		t.Fatalf("%+v, %v", task, err)
	}
	var failed engine.Failed
	if json.Unmarshal(task.Terminal.Payload, &failed) != nil || failed.Code != "TASK_SUBMISSION_ERROR" || !failed.Retryable {
		t.Errorf("%s", task.Terminal.Payload)
	}
	if w.exec.released != 0 {
		t.Error("a submitted slot was released as well")
	}
	if n := w.metrics.get(engine.MetricTaskFailures, ""); n != 1 {
		t.Errorf("%d failures counted", n)
	}
	res, err := w.Create(ctx, alice, request("r"))
	if err != nil || !res.Deduplicated || res.Task.Status != engine.StatusFailed {
		t.Errorf("repeat: %+v, %v", res, err)
	}
}

// An executor that takes all the time there is for handing over leaves no task
// behind that nobody ends.
func TestCreateSubmitTakesAllTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		w.exec.onSubmit = func(ctx context.Context, _ engine.Task) error { <-ctx.Done(); return ctx.Err() }
		w.store.set(func() { w.store.onAppend = func(ctx context.Context, _ engine.Append) error { return ctx.Err() } })
		_, err := w.Create(ctx, alice, request("r"))
		wantCode(t, err, engine.CodeTaskSubmission)
		if task, err := w.store.Lookup(ctx, "alice", "r"); err != nil || task.Status != engine.StatusFailed {
			t.Errorf("%+v, %v", task, err)
		}
		if err := w.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}

// A client that goes away while its task is stored does not lose it.
func TestCreateClientGone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := newWorld(t)
	w.store.set(func() { w.store.onCreate = func(engine.Task) error { cancel(); return nil } })
	w.exec.onSubmit = func(ctx context.Context, _ engine.Task) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the hand-over has no time limit")
		}
		return ctx.Err()
	}
	res, err := w.Create(ctx, alice, request("r"))
	if err != nil || len(w.exec.submitted) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// The store had the task, only its answer was lost: the task is handed over.
func TestCreateAnswerLost(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.store.set(func() { w.store.onCreate = func(engine.Task) error { return unavailable } })
	r := request("r")
	r.Files = []engine.File{file("a", "t/t", "content")}
	res, err := w.Create(ctx, alice, r)
	if err != nil || res.Deduplicated || len(w.exec.submitted) != 1 || w.store.deletes.Load() != 0 {
		t.Errorf("%+v, %v; %d submitted, %d files deleted", res, err, len(w.exec.submitted), w.store.deletes.Load())
	}
	// An equal request that meets the same is no second one.
	res, err = w.Create(ctx, alice, r)
	if err != nil || !res.Deduplicated || len(w.exec.submitted) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// The answer is lost, and the task that is there is another request's.
func TestCreateAnswerLostInARace(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	first, err := w.Create(ctx, alice, request("r"))
	if err != nil {
		t.Fatal(err)
	}
	lookups := 0
	w.store.set(func() {
		w.store.onCreate = func(engine.Task) error { return unavailable }
		w.store.onLookup = func() error {
			if lookups++; lookups%2 == 1 {
				return engine.NewError(engine.CodeTaskNotFound, "not yet")
			}
			return nil
		}
	})
	time.Sleep(time.Millisecond) // createdAt is in microseconds
	if res, err := w.Create(ctx, alice, request("r")); err != nil || !res.Deduplicated || res.Task.ID != first.Task.ID {
		t.Errorf("equal: %+v, %v", res, err)
	}
	r := request("r")
	r.TaskType = "other"
	_, err = w.Create(ctx, alice, r)
	wantCode(t, err, engine.CodeIdempotency)
	if len(w.exec.submitted) != 1 || w.exec.released != 2 {
		t.Errorf("%d submitted, %d released", len(w.exec.submitted), w.exec.released)
	}
}

func TestCreateFailsToStore(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.store.set(func() {
		w.store.onCreate = func(task engine.Task) error {
			_ = w.store.Erase(ctx, task.ID) // it was never there
			return unavailable
		}
	})
	r := request("r")
	r.Files = []engine.File{file("a", "t/t", "content"), file("b", "t/t", "")}
	_, err := w.Create(ctx, alice, r)
	wantCode(t, err, engine.CodeStoreUnavailable)
	if w.store.puts.Load() != 2 || w.store.deletes.Load() != 2 || w.exec.released != 1 {
		t.Errorf("%d files stored, %d deleted, %d slots released", w.store.puts.Load(), w.store.deletes.Load(), w.exec.released)
	}
}

// A file that reads differently the second time would be kept under a digest
// that is not its own.
func TestCreateFileThatChanges(t *testing.T) {
	w := newWorld(t)
	reads := 0
	changing := file("b", "t/t", "")
	changing.Open = func() (io.ReadCloser, error) {
		reads++
		return io.NopCloser(strings.NewReader(fmt.Sprint(reads))), nil
	}
	r := request("r")
	r.Files = []engine.File{file("a", "t/t", "content"), changing}
	_, err := w.Create(context.Background(), alice, r)
	wantCode(t, err, engine.CodeInternal)
	if w.store.puts.Load() != 2 || w.store.deletes.Load() != 2 || w.exec.released != 1 {
		t.Errorf("%d files stored, %d deleted, %d slots released", w.store.puts.Load(), w.store.deletes.Load(), w.exec.released)
	}
	unreadable := file("b", "t/t", "")
	unreadable.Open = func() (io.ReadCloser, error) { return nil, errors.New("secret") }
	r.Files = []engine.File{unreadable}
	_, err = w.Create(context.Background(), alice, r)
	wantCode(t, err, engine.CodeInternal)
	r.Files = []engine.File{{Name: "x"}}
	_, err = w.Create(context.Background(), alice, r)
	wantCode(t, err, engine.CodeInternal)
}

// A shutdown waits for a create that has begun, so that its task is handed over.
func TestShutdownWaitsForCreates(t *testing.T) {
	w := newWorld(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	w.store.set(func() {
		w.store.onCreate = func(engine.Task) error { close(inside); <-goOn; return nil }
	})
	created := make(chan error, 1)
	go func() {
		_, err := w.Create(context.Background(), alice, request("r"))
		created <- err
	}()
	<-inside
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := w.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with a create under way: %v", err)
	}
	close(goOn)
	if err := <-created; err != nil || len(w.exec.submitted) != 1 {
		t.Errorf("create: %v, %d submitted", err, len(w.exec.submitted))
	}
}

// Late in a drain the store is closed already: that is no fault of it.
func TestCreateAfterShutdown(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	if err := w.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	_ = w.store.Close()
	_, err := w.Create(ctx, alice, request("r"))
	wantCode(t, err, engine.CodeServerDraining)
}
