package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestPageAndItsFiles(t *testing.T) {
	d := serve(t)
	for path, contentType := range map[string]string{
		"/":              "text/html; charset=utf-8",
		"/style.css":     "text/css; charset=utf-8",
		"/app.js":        "text/javascript; charset=utf-8",
		"/follower.js":   "text/javascript; charset=utf-8",
		"/tasklog.js":    "text/javascript; charset=utf-8",
		"/api.js":        "text/javascript; charset=utf-8",
		"/transports.js": "text/javascript; charset=utf-8",
	} {
		response, err := client.Get(d.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(body) == 0 || response.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: %s %v %v", path, response.Status, response.Header, err)
		}
	}
}

func TestEveryAnswerHasARequestIDAndAllowsOtherOrigins(t *testing.T) {
	d := serve(t)
	finished := d.start("greet", `{}`)
	running := d.start("stall", `{}`)
	d.events(finished, 0)
	for _, c := range []struct {
		path   string
		status int
	}{
		{"/health", 200},
		{"/ready", 200},
		{"/api/v1/tasks/" + finished, 200},
		{"/api/v1/tasks/" + finished + "/events", 200},
		{"/api/v1/tasks/" + finished + "/events/stream", 200},
		{"/api/v1/tasks/" + running + "/events/stream", 200},
		{"/api/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa", 404},
		{"/nowhere", 404},
	} {
		request, err := http.NewRequest(http.MethodGet, d.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer alice")
		request.Header.Set("Origin", "https://elsewhere.example")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		h := response.Header
		if response.StatusCode != c.status || h.Get("X-Request-Id") == "" || h.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(h.Get("Access-Control-Expose-Headers"), "X-Request-Id") || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %s %v", c.path, response.Status, h)
		}
	}
}

func TestWebSocketsHaveARequestIDToo(t *testing.T) {
	d := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, d.url+"/api/v1/tasks/ws?access_token=alice", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if response.Header.Get("X-Request-Id") == "" {
		t.Errorf("%v", response.Header)
	}
}

func TestPreflight(t *testing.T) {
	d := serve(t)
	request, err := http.NewRequest(http.MethodOptions, d.url+"/api/v1/tasks", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://elsewhere.example")
	request.Header.Set("Access-Control-Request-Method", "POST")
	request.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	h := response.Header
	if response.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || h.Get("Access-Control-Allow-Headers") != "authorization,content-type" {
		t.Errorf("%s %v", response.Status, h)
	}
}

func TestNobodyIs401ExceptForHealth(t *testing.T) {
	d := serve(t)
	for path, want := range map[string]int{
		"/health": 200,
		"/ready":  200,
		"/api/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa":                                        401,
		"/api/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa/events":                                 401,
		"/api/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa/events/stream":                          401,
		"/api/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa/events/stream?access_token=a%3Bexp%3D1": 401,
		"/api/v1/tasks/aaaaaaaaaaaaaaaaaaaaaaaaaa/events/stream?access_token=a":           404,
	} {
		response, err := client.Get(d.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, response.Status, want)
		}
	}
}

func TestUploadsGoIntoTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "uploads")
	d := serve(t, "-upload-dir", dir)
	upload := func(size int) (*http.Response, []byte) {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		for name, value := range map[string]string{"clientRequestId": fmt.Sprint(size), "taskType": "greet", "input": `{}`} {
			if err := form.WriteField(name, value); err != nil {
				t.Fatal(err)
			}
		}
		part, err := form.CreateFormFile("attachments", "notes.txt")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
		if err := form.Close(); err != nil {
			t.Fatal(err)
		}
		response, err := client.Post(d.url+"/api/v1/tasks?access_token=alice", form.FormDataContentType(), &body)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, answer
	}
	if response, answer := upload(9 << 20); response.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", response.Status, answer)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	// The library's own limit answers, not Fiber's, which lies above it.
	if response, answer := upload(11 << 20); response.StatusCode != http.StatusBadRequest || !bytes.Contains(answer, []byte("UPLOAD_VALIDATION_ERROR")) {
		t.Errorf("%s: %s", response.Status, answer)
	}
}

func TestStartFailuresExitWithOne(t *testing.T) {
	d := serve(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-addr", strings.TrimPrefix(d.url, "http://")}, // taken
		{"-addr", "nonsense"},
		{"-addr", "127.0.0.1:0", "-upload-dir", file},
	} {
		var stderr bytes.Buffer
		if code := run(args, environment(), io.Discard, &stderr, nil); code != exitFailed || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, stderr.String())
		}
	}
}

// follow opens an SSE stream.
func (d *demo) follow(taskID string) *http.Response {
	d.t.Helper()
	response, err := client.Get(d.url + "/api/v1/tasks/" + taskID + "/events/stream?access_token=alice")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestSignalDrains(t *testing.T) {
	d := serve(t, "-drain", "5s")
	stream := d.follow(d.start("stall", `{}`))
	d.signals <- syscall.SIGTERM
	text, err := io.ReadAll(stream.Body)
	if err == nil {
		t.Error("the stream was ended as if its task were over")
	}
	if !strings.Contains(string(text), "event: closing") || !strings.Contains(string(text), "server_draining") {
		t.Errorf("the stream said %q", text)
	}
	if code := d.waitExit(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := client.Get(d.url + "/health"); err == nil {
		t.Error("it still serves")
	}
}

func TestDrainKeepsItsTime(t *testing.T) {
	d := serve(t, "-drain", "1s")
	for range 3 {
		d.follow(d.start("stall", `{}`))
	}
	start := time.Now()
	d.signals <- syscall.SIGTERM
	if code := d.waitExit(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	// Its tasks never end: without the limit it would take for ever.
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	d := serve(t, "-drain", "6s")
	stream := bufio.NewReader(d.follow(d.start("stall", `{}`)).Body)
	if _, err := stream.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	d.signals <- syscall.SIGTERM
	d.signals <- syscall.SIGTERM
	if code := d.waitExit(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(start); took > 3*time.Second { // half of the drain, on a busy machine
		t.Errorf("took %s", took)
	}
	// In this process what was left behind still has to end.
	if _, err := io.Copy(io.Discard, stream); err == nil {
		t.Error("the stream was ended as if its task were over")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		response, err := client.Get(d.url + "/health")
		if err != nil {
			break // the server is the last that is shut down
		}
		_ = response.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("what was left behind does not end")
		}
	}
}
