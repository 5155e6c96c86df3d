package fiberbridge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// streaming lets forms pass through Fiber.
var streaming = fiber.Config{StreamRequestBody: true, DisablePreParseMultipartForm: true}

// uploadHost keeps its files in a directory and has a task "digest" that reads
// them. left lists what is in the directory and among the temporary files.
func uploadHost(t *testing.T, change func(*hostOptions)) (h *httpHost, left func() []string) {
	t.Helper()
	path, temp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	files, err := memstore.NewDir(path)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	exec, err := localexec.New(localexec.Config{Logger: quiet}, localexec.Handle("digest", digestFiles))
	if err != nil {
		t.Fatal(err)
	}
	h = newHTTPHost(t, func(o *hostOptions) {
		o.fiber = streaming
		o.store.Attachments = files
		o.engine.Executor = exec
		if change != nil {
			change(o)
		}
	})
	return h, func() (names []string) {
		for _, dir := range []string{path, temp} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				names = append(names, filepath.Join(filepath.Base(dir), e.Name()))
			}
		}
		return names
	}
}

// digestFiles is a handler that reads what came with its task.
func digestFiles(ctx context.Context, run *engine.Run, _ struct{}) (map[string]string, error) {
	digests := map[string]string{}
	for _, a := range run.Task().Attachments {
		f, err := run.OpenAttachment(ctx, a)
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		digests[a.Name] = fmt.Sprintf("%s %d %s", a.ContentType, n, hex.EncodeToString(h.Sum(nil)))
	}
	return digests, nil
}

func upload(t *testing.T, client *http.Client, base string, body io.Reader, contentType string) reply {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, base+"/tasks", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer alice")
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

// result is the payload of the last event.
func result(p pollPage) string { return string(p.Events[len(p.Events)-1].Payload) }

// A file goes through the host without being held: what is allocated does not
// grow with it, whether its length is known or not.
func TestUploadConstantMemory(t *testing.T) {
	h, left := uploadHost(t, nil)
	base, client := h.listen(t)
	const size = 10 << 20
	for name, chunked := range map[string]bool{"length": false, "chunked": true} {
		head, contentType := form(t, "clientRequestId", name, "taskType", "digest", "@attachment", "big.bin|application/octet-stream|")
		body := head.String()
		at := strings.LastIndex(body, "\r\n--bOuNdArY--")
		file := io.LimitReader(zeros{}, size)
		reader := io.MultiReader(strings.NewReader(body[:at]), file, strings.NewReader(body[at:]))
		req, err := http.NewRequest(http.MethodPost, base+"/tasks", reader)
		if err != nil {
			t.Fatal(err)
		}
		if !chunked {
			req.ContentLength = int64(len(body)) + size
		}
		req.Header.Set("Authorization", "Bearer alice")
		req.Header.Set("Content-Type", contentType)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		r := read(t, resp)
		if r.status != 201 {
			t.Fatal(r)
		}
		// Client and server together; most of it is what stays in memory before
		// a file is used.
		if got := after.TotalAlloc - before.TotalAlloc; got > size/4 {
			t.Errorf("%s: %d KiB were allocated for a file of %d", name, got>>10, size>>10)
		}
		var c createdTask
		r.decode(t, &c)
		h.until(t, c.TaskID, "COMPLETED")
		want := sha256.New()
		_, _ = io.CopyN(want, zeros{}, size)
		if got := result(h.poll(t, c.TaskID, "")); !strings.Contains(got, fmt.Sprintf("application/octet-stream %d %x", size, want.Sum(nil))) {
			t.Error(got)
		}
	}
	if got := left(); len(got) != 2 { // the two that were accepted
		t.Errorf("files %q", got)
	}
}

// Whoever refuses an upload, no file of it stays.
func TestUploadRefusedLeavesNothing(t *testing.T) {
	var policy func(engine.AuthContext, engine.Upload) error
	for name, cfg := range bodyWays {
		t.Run(name, func(t *testing.T) {
			h, left := uploadHost(t, func(o *hostOptions) {
				cfg.BodyLimit = 8 << 20
				o.fiber = cfg
				o.bridge.Uploads = fiberbridge.UploadConfig{
					MaxFiles: 2, MaxFileBytes: 1 << 20, MaxTotalBytes: 3 << 19,
					ContentTypes: []string{"image/*", "application/PDF", "text/plain"},
				}
				o.engine.Uploads = engine.UploadFunc(func(_ context.Context, auth engine.AuthContext, u engine.Upload) error {
					return policy(auth, u)
				})
			})
			base, client := h.listen(t)
			const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
			large := strings.Repeat("a", 600<<10) // beyond what is kept in memory
			for _, tt := range []struct {
				name   string
				fields []string
				says   error
				status int
				code   engine.Code
				field  string
			}{
				{"type not taken", []string{"@attachment", "a.html|text/html|<html>" + large}, nil, 400, engine.CodeUploadValidation, "attachment[0]"},
				{"undeclared, type not taken", []string{"@attachment", "a|application/octet-stream|<html>" + large}, nil, 400, engine.CodeUploadValidation, "attachment[0]"},
				{"type that the content contradicts", []string{"@attachments", "a.png|image/png|" + png, "@attachments", "b.png|image/png|" + large}, nil, 400, engine.CodeUploadValidation, "attachments[1]"},
				{"malformed type", []string{"@attachments", "a|png|" + png}, nil, 400, engine.CodeUploadValidation, "attachments[0]"},
				{"too many", []string{"@attachment", "a|text/plain|" + large, "@attachment", "b|text/plain|b", "@attachments", "c|text/plain|" + large}, nil, 400, engine.CodeUploadValidation, "attachments"},
				{"too large", []string{"@attachment", "a|text/plain|" + large + large}, nil, 400, engine.CodeUploadValidation, "attachment[0]"},
				{"too large together", []string{"@attachment", "a|text/plain|" + large + "xx", "@attachment", "b|text/plain|" + large + large[:400<<10]}, nil, 400, engine.CodeUploadValidation, "attachments"},
				{"a field that is wrong", []string{"@attachment", "a|text/plain|" + large, "input", "[]"}, nil, 400, engine.CodeInvalidRequest, "input"},
				{"over the rate", []string{"@attachment", "a|text/plain|" + large}, &engine.Error{Code: engine.CodeRateLimited, RetryAfter: 7 * time.Second}, 429, engine.CodeRateLimited, ""},
				{"over the quota", []string{"@attachment", "a|text/plain|" + large}, engine.NewError(engine.CodeUploadValidation, "no room left"), 400, engine.CodeUploadValidation, ""},
				{"policy without an answer", []string{"@attachment", "a|text/plain|" + large}, errors.New("secret"), 500, engine.CodeInternal, ""},
				{"type of task", []string{"taskType", "unknown", "@attachment", "a|text/plain|" + large}, nil, 400, engine.CodeInvalidRequest, ""},
			} {
				policy = func(auth engine.AuthContext, u engine.Upload) error {
					if auth.Subject != "alice" || u.Files[0].Name != "a" || u.Bytes() != int64(len(large)) {
						t.Errorf("asked about %+v of %s", u, auth.Subject)
					}
					return tt.says
				}
				fields := append([]string{"clientRequestId", "r"}, tt.fields...)
				if !strings.Contains(strings.Join(tt.fields, " "), "taskType") {
					fields = append(fields, "taskType", "digest")
				}
				body, contentType := form(t, fields...)
				r := upload(t, client, base, body, contentType)
				if r.status != tt.status || r.code() != tt.code || tt.field != "" && !strings.Contains(r.body, `"field":"`+tt.field+`"`) || strings.Contains(r.body, "secret") {
					t.Errorf("%s: %v", tt.name, r)
				}
				if tt.status == 429 && r.header.Get("Retry-After") != "7" {
					t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
				}
				if got := left(); len(got) > 0 {
					t.Fatalf("%s: left %q", tt.name, got)
				}
			}
			// The same name is free: nothing of them was stored.
			policy = func(engine.AuthContext, engine.Upload) error { return nil }
			body, contentType := form(t, "clientRequestId", "r", "taskType", "digest", "@attachment", `..\CON.png||`+png)
			r := upload(t, client, base, body, contentType)
			var c createdTask
			r.decode(t, &c)
			if r.status != 201 {
				t.Fatal(r)
			}
			h.until(t, c.TaskID, "COMPLETED")
			if got := result(h.poll(t, c.TaskID, "")); !strings.Contains(got, `"_CON.png":"image/png 16 `) {
				t.Error(got)
			}
		})
	}
}

// A host without a place for files, or one that wants none, says so.
func TestUploadNone(t *testing.T) {
	for name, change := range map[string]func(*hostOptions){
		"disabled": func(o *hostOptions) { o.bridge.Uploads.Disable = true },
		"no store": func(o *hostOptions) { o.engine.Store = struct{ engine.Store }{newStore(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHTTPHost(t, func(o *hostOptions) {
				o.fiber, o.bridge.Uploads.IgnoreFields = streaming, []string{"other"}
				change(o)
			})
			base, client := h.listen(t)
			body, contentType := form(t, "clientRequestId", "r", "taskType", "words", "@attachment", "a|text/plain|a")
			if r := upload(t, client, base, body, contentType); r.status != 400 || r.code() != engine.CodeUploadValidation {
				t.Error(r)
			}
			body, contentType = form(t, "clientRequestId", "r", "taskType", "words", "@other", "a|text/plain|a")
			if r := upload(t, client, base, body, contentType); r.status != 201 {
				t.Error(r)
			}
		})
	}
}

func newStore(t *testing.T) *memstore.Store {
	t.Helper()
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// A client that goes in the middle of its file leaves nothing, and one that
// stops sending is told so and loses its connection.
func TestUploadBreaksOff(t *testing.T) {
	h, left := uploadHost(t, func(o *hostOptions) { o.bridge.Uploads.ReadTimeout = 300 * time.Millisecond })
	base, _ := h.listen(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	begin := func(length string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Type: multipart/form-data; boundary=b\r\n%s\r\n\r\n", length)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	part := "--b\r\nContent-Disposition: form-data; name=attachment; filename=a\r\n\r\n" + strings.Repeat("x", 3<<20)
	for name, send := range map[string]struct{ head, body string }{
		"length":  {fmt.Sprintf("Content-Length: %d", 2*len(part)), part},
		"chunked": {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", len(part), part)},
	} {
		for _, reset := range []bool{false, true} {
			conn := begin(send.head)
			if _, err := io.WriteString(conn, send.body); err != nil {
				t.Fatal(name, err)
			}
			if reset {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			_ = conn.Close()
		}
		conn := begin(send.head)
		if _, err := io.WriteString(conn, send.body); err != nil {
			t.Fatal(name, err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(enough))
		answer, err := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || !bytes.Contains(answer, []byte("INVALID_REQUEST")) || err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		_ = conn.Close()
	}
	eventually(t, func() bool { return len(left()) == 0 })
}

// A client that is slow and not too slow is no different from a quick one, and
// nor is the next request on its connection.
func TestUploadMayBeSlow(t *testing.T) {
	intime.Try(t, 300*time.Millisecond, func(most time.Duration) bool {
		h, _ := uploadHost(t, func(o *hostOptions) { o.bridge.Uploads.ReadTimeout = most })
		base, client := h.listen(t)
		for i := range 2 {
			body, contentType := form(t, "clientRequestId", fmt.Sprint(i), "taskType", "digest", "@attachment", "a|text/plain|a")
			pr, pw := io.Pipe()
			var paused time.Duration
			written := make(chan struct{})
			go func() {
				defer close(written)
				half := body.Len() / 2
				_, _ = pw.Write(body.Next(half))
				began := time.Now()
				time.Sleep(50 * time.Millisecond) // the slowness itself
				_, _ = pw.Write(body.Bytes())
				paused = time.Since(began)
				_ = pw.Close()
			}()
			r := upload(t, client, base, pr, contentType)
			<-written
			if r.status != 201 {
				if paused > most/2 {
					return false // slower than was meant
				}
				t.Error(r)
			}
			time.Sleep(most + 50*time.Millisecond) // longer than the deadline, were it still there
		}
		return true
	})
}

// Forms that are made to cost more than they weigh are refused with bounded
// memory, in every way that a form gets here.
func TestUploadHostile(t *testing.T) {
	const end = "--b--\r\n"
	parts := func(n int) string {
		return strings.Repeat("--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n", n)
	}
	nested := "--b\r\nContent-Disposition: form-data; name=attachment; filename=a\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" +
		strings.Repeat("--c\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n", 10_000) + "\r\n"
	for name, cfg := range bodyWays {
		t.Run(name, func(t *testing.T) {
			cfg.BodyLimit = 16 << 20
			h, left := uploadHost(t, func(o *hostOptions) { o.fiber = cfg })
			base, _ := h.listen(t)
			for what, body := range map[string]string{
				"1001 parts":         parts(1001) + end,
				"many parts":         parts(100_000) + end,
				"many headers":       "--b\r\n" + strings.Repeat("X-Y: z\r\n", 100_000) + "\r\n" + end,
				"one endless header": "--b\r\nX: " + strings.Repeat("x", 12<<20) + "\r\n\r\n" + end,
				"many files":         strings.Repeat("--b\r\nContent-Disposition: form-data; name=attachments; filename=a\r\n\r\n\r\n", 50_000) + end,
				"nested forms":       nested + end,
				"boundaries":         strings.Repeat("--b\r\n", 500_000),
				"almost boundaries":  "--b\r\nContent-Disposition: form-data; name=attachment; filename=a\r\n\r\n" + strings.Repeat("\r\n--a", 500_000),
			} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for _, chunked := range []bool{false, true} {
					var reader io.Reader = strings.NewReader(body)
					if chunked {
						reader = struct{ io.Reader }{reader}
					}
					req, _ := http.NewRequest(http.MethodPost, base+"/tasks", reader)
					req.Header.Set("Authorization", "Bearer alice")
					req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
					r, _ := sendTooMuch(t, req)
					if r.status != 400 || r.code() != engine.CodeInvalidRequest && r.code() != engine.CodeUploadValidation {
						t.Errorf("%s: %v", what, r)
					}
					if strings.Contains(what, "parts") && !strings.Contains(r.body, "parts") {
						t.Errorf("%s: %v", what, r)
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 40<<20 {
					t.Errorf("%s: the heap grew by %d MiB", what, grown>>20)
				}
			}
			if got := left(); len(got) > 0 {
				t.Errorf("left %q", got)
			}
			if r := h.send(t, newRequest("GET", "/health", "")); r.status != 200 {
				t.Error(r)
			}
		})
	}
}

// Mount tells, once, what stands in the way of the limits for uploads.
func TestMountTellsUploadLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*hostOptions)
		want   string // "" for silence
	}{
		{"Fiber's defaults", func(*hostOptions) {}, "BodyLimit"},
		{"on the app", func(o *hostOptions) { o.noGroup = true }, "BodyLimit"},
		{"a limit between", func(o *hostOptions) { o.fiber.BodyLimit = 20 << 20 }, "BodyLimit"},
		{"large enough, held", func(o *hostOptions) { o.fiber.BodyLimit = 40 << 20 }, "held in memory"},
		{"small enough, held", func(o *hostOptions) { o.bridge.Uploads.MaxTotalBytes = 1 << 20 }, "held in memory"},
		{"streamed, parsed before", func(o *hostOptions) { o.fiber.StreamRequestBody = true }, "DisablePreParseMultipartForm"},
		{"streamed", func(o *hostOptions) { o.fiber = streaming }, ""},
		{"no uploads", func(o *hostOptions) { o.bridge.Uploads.Disable = true }, "held in memory"},
		{"no uploads, streamed", func(o *hostOptions) { o.fiber.StreamRequestBody, o.bridge.Uploads.Disable = true, true }, ""},
		{"nowhere to keep them", func(o *hostOptions) { o.engine.Store = struct{ engine.Store }{newStore(t)} }, "held in memory"},
		{"no create", func(o *hostOptions) { o.bridge.Routes.Create = "-" }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log lockedBuffer
			h := newHTTPHost(t, func(o *hostOptions) {
				o.bridge.Logger = slog.New(slog.NewTextHandler(&log, nil))
				tt.change(o)
				o.fiber.ReadTimeout = time.Minute // not what this is about
			})
			if err := h.bridge.Mount(h.app.Group("/again")); err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(log.String(), "level=WARN")
			if tt.want == "" && lines == 0 {
				return
			}
			if lines != 1 || !strings.Contains(log.String(), tt.want) || !strings.Contains(log.String(), "maxFileBytes=10485760") {
				t.Error(log.String())
			}
		})
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestUploadContentTypesValidated(t *testing.T) {
	for entry, ok := range map[string]bool{
		"*/*": true, "image/*": true, "Image/PNG": true, "application/vnd.x+json": true,
		"": false, "image": false, "image/": false, "/png": false, "*/png": false, "image/p*": false, "im*/png": false,
		"image/png; q=1": false, " image/png": false, "a/b/c": false, "*": false,
	} {
		eng, err := engine.New(engine.Config{Store: newStore(t)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := fiberbridge.New(fiberbridge.Config{Engine: eng, Auth: authFromToken, Drain: fiberbridge.DrainConfig{NotReady: -1, Spread: -1}, Uploads: fiberbridge.UploadConfig{ContentTypes: []string{"x/y", entry}}})
		if (err == nil) != ok {
			t.Errorf("%q: %v", entry, err)
		}
		if err != nil && !strings.Contains(err.Error(), "Config.Uploads.ContentTypes[1]") {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		if b != nil {
			err = b.Shutdown(ctx)
		} else {
			err = eng.Shutdown(ctx)
		}
		cancel()
		if err != nil {
			t.Error(err)
		}
	}
}
