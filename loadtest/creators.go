//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
)

// creators are honest subjects who create tasks and wait for their results, over
// and over.
type creators struct {
	base   string
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	requests hist.Hist // microseconds of creates and of polls that had an event
	made     int
	refused  int
	words    []string // of the first refusals
	first    []madeTask
}

// madeTask is a task and its owner.
type madeTask struct{ id, owner string }

// creatorPause is between two tasks of one creator.
const creatorPause = 500 * time.Millisecond

// newCreators starts n of them. Half keep their connections, half open one for
// each request.
func newCreators(base string, n int) *creators {
	ctx, cancel := context.WithCancel(context.Background())
	c := &creators{base: base, cancel: cancel}
	for i := range n {
		c.ended.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 1}
			defer transport.CloseIdleConnections()
			one := &creator{creators: c, subject: fmt.Sprintf("creator-%d", i), client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
			pause(ctx, creatorPause*time.Duration(i)/time.Duration(n))
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				one.work(ctx, n == 0)
				pause(ctx, creatorPause-time.Since(began))
			}
		})
	}
	return c
}

// close ends them.
func (c *creators) close() {
	c.cancel()
	c.ended.Wait()
}

// window returns the times of requests since the last call, and forgets them.
func (c *creators) window() hist.Hist {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.requests
	c.requests.Reset()
	return h
}

// counts are the tasks made and the refusals so far, and words for some of these.
func (c *creators) counts() (made, refused int, words []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made, c.refused, append([]string(nil), c.words...)
}

func (c *creators) refuse(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused++; len(c.words) < 5 {
		c.words = append(c.words, fmt.Sprintf(format, args...))
	}
}

// lost reports how many of the tasks that each creator made first have their
// result no more.
func (c *creators) lost(ctx context.Context) (lost int) {
	c.mu.Lock()
	first := append([]madeTask(nil), c.first...)
	c.mu.Unlock()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, t := range first {
		one := &creator{creators: c, subject: t.owner, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
		var snapshot struct{ Status string }
		if err := one.ask(ctx, http.MethodGet, "/tasks/"+t.id, nil, &snapshot); err != nil || snapshot.Status != "COMPLETED" {
			lost++
		}
	}
	return lost
}

type creator struct {
	*creators
	subject string
	client  *http.Client
}

// work makes a task and waits until it is over.
func (c *creator) work(ctx context.Context, first bool) {
	var task struct{ TaskID string }
	body, _ := json.Marshal(map[string]any{"clientRequestId": rand.Text(), "taskType": "greet", "input": map[string]string{"name": c.subject}}) // strings
	if err := c.timed(ctx, http.MethodPost, "/tasks", body, &task); err != nil {
		if ctx.Err() == nil {
			c.refuse("create: %v", err)
		}
		return
	}
	var page struct {
		Status           string
		NextAfterEventID string
	}
	for page.Status != "COMPLETED" {
		path := "/tasks/" + task.TaskID + "/events?waitTimeoutMs=10000&afterEventId=" + page.NextAfterEventID
		if err := c.timed(ctx, http.MethodGet, path, nil, &page); err != nil {
			if ctx.Err() == nil {
				c.refuse("poll: %v", err)
			}
			return
		}
		if page.Status == "FAILED" || page.Status == "CANCELLED" {
			c.refuse("a task ended as %s", page.Status)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	if first {
		c.first = append(c.first, madeTask{task.TaskID, c.subject})
	}
}

func (c *creator) timed(ctx context.Context, method, path string, body []byte, into any) error {
	began := time.Now()
	err := c.ask(ctx, method, path, body, into)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests.Record(time.Since(began).Microseconds())
	}
	return err
}

func (c *creator) ask(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.subject)
	req.Header.Set("Content-Type", "application/json")
	// Any server may close a connection that is idle, just when a request is sent.
	// Creates can be repeated, and with this field the client knows.
	req.Header.Set("Idempotency-Key", "x")
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode > http.StatusCreated {
		err = fmt.Errorf("status %d: %.200s", res.StatusCode, answer)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}
