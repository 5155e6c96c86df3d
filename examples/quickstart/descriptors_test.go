//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// few is the limit of descriptors of the hosts here.
const few = 1024

// fewHost is a host process that may open few descriptors.
type fewHost struct {
	*demo
	pid    int
	exited chan struct{}
	log    *lockedLog
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serveWithFew(t *testing.T) *fewHost {
	t.Helper()
	h := &fewHost{exited: make(chan struct{}), log: &lockedLog{}}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf("ulimit -n %d; exec \"$0\"", few), os.Args[0])
	cmd.Env = append(os.Environ(), hostEnv+"=-addr\n127.0.0.1:0\n-drain\n1s")
	cmd.Stderr = h.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	go func() {
		defer close(h.exited)
		_, _ = io.Copy(io.Discard, lines)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-h.exited
		if t.Failed() {
			t.Logf("the host said:\n%.4000s", h.log.String())
		}
	})
	url, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !found {
		t.Fatalf("it said %q: %v", line, err)
	}
	h.demo, h.pid = &demo{t: t, url: url}, cmd.Process.Pid
	return h
}

// descriptors is how many the host has open.
func (h *fewHost) descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(entries)
}

func (h *fewHost) alive() bool {
	select {
	case <-h.exited:
		return false
	default:
		return true
	}
}

// idlers holds many connections that say nothing, or have said something once,
// and opens another one for each that is closed.
func (h *fewHost) idlers(ctx context.Context, wait *sync.WaitGroup, n int) *atomic.Int64 {
	var opened atomic.Int64
	addr := strings.TrimPrefix(h.url, "http://")
	for i := range n {
		wait.Go(func() {
			for ctx.Err() == nil {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				if err != nil {
					continue
				}
				opened.Add(1)
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				switch i % 4 {
				case 1: // an idle keep-alive connection
					_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
				case 2: // a header that does not end
					_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost:")
				case 3: // a body that does not come
					_, _ = io.WriteString(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
				}
				_, _ = io.Copy(io.Discard, conn) // until the host closes it
				stop()
				conn.Close()
				time.Sleep(time.Second) // the pace of those who come back
			}
		})
	}
	return &opened
}

// healthy asks on a new connection.
func (h *fewHost) healthy(within time.Duration) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	resp, err := client.Get(h.url + "/health")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// follow reads the stream of a new task of count events to its end.
func (h *fewHost) follow(client *http.Client, id, count int) error {
	body, _ := json.Marshal(map[string]any{
		"clientRequestId": fmt.Sprint("r", id), "taskType": "tokens", "input": map[string]any{"count": count, "intervalMs": 10},
	})
	req, _ := http.NewRequest(http.MethodPost, h.url+"/api/v1/tasks?access_token=alice", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var created struct{ TaskID string }
	if err := json.NewDecoder(resp.Body).Decode(&created); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("create: %s, %w", resp.Status, err)
	}
	stream, err := client.Get(h.url + "/api/v1/tasks/" + created.TaskID + "/events/stream?access_token=alice")
	if err != nil {
		return err
	}
	defer stream.Body.Close()
	events, err := io.ReadAll(stream.Body)
	if n := bytes.Count(events, []byte("\nid: ")); err != nil || n < count {
		return fmt.Errorf("%s: %d events of %d: %w", stream.Status, n, count, err)
	}
	return nil
}

// Thousands of connections that say nothing keep nobody out and do not end the
// host: health is answered, tasks are made and followed, streams that are open
// stay, and when the crowd has gone everything is as before.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens thousands of connections")
	}
	h := serveWithFew(t)
	before := h.descriptors()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

	ctx, leave := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	defer crowd.Wait()
	defer leave()
	opened := h.idlers(ctx, &crowd, 3*few)
	for end := time.Now().Add(time.Minute); opened.Load() < 2*few; time.Sleep(10 * time.Millisecond) {
		if !h.alive() || time.Now().After(end) {
			t.Fatalf("%d connections were made, and the host is alive: %v", opened.Load(), h.alive())
		}
	}
	var honest sync.WaitGroup
	for i := range 30 {
		honest.Go(func() {
			if err := h.follow(client, i, 100); err != nil {
				t.Errorf("a subscriber: %v", err)
			}
		})
	}
	var slowest time.Duration
	for range 50 {
		began := time.Now()
		if err := h.healthy(20 * time.Second); err != nil {
			t.Errorf("health: %v", err)
		}
		slowest = max(slowest, time.Since(began))
	}
	honest.Wait()
	if n := h.descriptors(); n > few {
		t.Errorf("%d descriptors", n)
	}
	t.Logf("%d connections were made, the slowest health took %v", opened.Load(), slowest)
	leave()
	crowd.Wait()
	for end := time.Now().Add(30 * time.Second); h.descriptors() > before+5; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, %d before", h.descriptors(), before)
		}
	}
	if err := h.follow(client, 1000, 5); err != nil || !h.alive() {
		t.Errorf("afterwards: %v", err)
	}
	if !strings.Contains(h.log.String(), "idle connections are closed for new ones") {
		t.Error("the log does not say why")
	}
	if n := strings.Count(h.log.String(), "listener: "); n > 10 {
		t.Errorf("the log says so %d times", n)
	}
}

// Streams up to their limit leave room for everything else, and a crowd of idle
// connections on top of that, too.
func TestStreamsLeaveRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens thousands of connections")
	}
	h := serveWithFew(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var created struct{ TaskID string }
	resp, err := client.Post(h.url+"/api/v1/tasks?access_token=alice", "application/json", strings.NewReader(`{"clientRequestId":"r","taskType":"stall"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&created); err != nil {
		t.Fatal(err)
	}
	streams := 0
	for {
		resp, err := client.Get(h.url + "/api/v1/tasks/" + created.TaskID + "/events/stream?access_token=alice")
		if err != nil {
			t.Fatalf("stream %d: %v", streams, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			break
		}
		streams++
	}
	if streams < few*3/4 || streams > few*9/10 {
		t.Errorf("%d streams", streams)
	}
	ctx, leave := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	defer crowd.Wait()
	defer leave()
	opened := h.idlers(ctx, &crowd, few/2)
	for end := time.Now().Add(time.Minute); opened.Load() < few/2 && h.alive() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	began := time.Now()
	for range 20 {
		if err := h.healthy(20 * time.Second); err != nil {
			t.Errorf("health beside %d streams and %d idle connections: %v", streams, opened.Load(), err)
		}
	}
	t.Logf("%d streams, %d idle connections were made, 20 times health in %v", streams, opened.Load(), time.Since(began))
}
