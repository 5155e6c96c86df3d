// Package client holds small clients for each transport. They record what they
// get and hold every answer, message and frame against the protocol.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/spec"
)

// Patience bounds every wait for something that must happen. It is far more than
// any of it takes, also on a machine that has other things to do: only a test
// that fails waits for so long.
const Patience = 2 * time.Minute

// pollPatience bounds one request: a poll may wait for a minute by itself.
const pollPatience = time.Minute + Patience

// Client speaks to one host as one subject.
type Client struct {
	Base    string
	Subject string

	t        testing.TB
	http     *http.Client
	protocol *spec.Protocol
}

// New returns a client of the host at base. An empty subject sends no
// credentials.
func New(t testing.TB, base, subject string) *Client {
	t.Helper()
	p, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &Client{
		Base: base, Subject: subject, t: t, protocol: p,
		http: &http.Client{Transport: transport, Timeout: pollPatience},
	}
}

// As returns the same client with another subject.
func (c *Client) As(subject string) *Client {
	other := *c
	other.Subject = subject
	return &other
}

// For returns the same client for another test, usually a subtest.
func (c *Client) For(t testing.TB) *Client {
	other := *c
	other.t = t
	return &other
}

// Answer is an HTTP answer, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// Took is the time from the request to the end of the answer.
	Took time.Duration
}

// Get requests path and checks the answer.
func (c *Client) Get(path string) Answer {
	c.t.Helper()
	return c.Do(http.MethodGet, path, nil, nil)
}

// Post sends body as JSON and checks the answer.
func (c *Client) Post(path, body string) Answer {
	c.t.Helper()
	return c.Do(http.MethodPost, path, http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

// Do sends a request and checks the answer against the document.
func (c *Client) Do(method, path string, header http.Header, body []byte) Answer {
	c.t.Helper()
	a, err := c.Try(method, path, header, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// Try is Do for goroutines other than the test's.
func (c *Client) Try(method, path string, header http.Header, body []byte) (Answer, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), pollPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, r)
	if err != nil {
		return Answer{}, err
	}
	c.authorize(req.Header)
	for k, vs := range header {
		req.Header[k] = vs
	}
	start := time.Now()
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: res.StatusCode, Header: res.Header, Body: text, Took: time.Since(start)}
	if err := c.protocol.Answer(req, a.Status, a.Header, a.Body); err != nil {
		return a, err
	}
	if a.Header.Get("X-Request-Id") == "" {
		c.t.Errorf("%s %s: %d without the X-Request-Id of the host's middleware", method, path, a.Status)
	}
	if a.Status < 300 && req.Header.Get("Content-Type") == "application/json" {
		if err := c.protocol.Request(req, body); err != nil {
			c.t.Errorf("the host took a request that the document refuses: %v", err)
		}
	}
	return a, nil
}

func (c *Client) authorize(h http.Header) {
	if c.Subject != "" {
		h.Set("Authorization", "Bearer "+c.Subject)
	}
}

// Error is the error envelope.
type Error struct {
	Code, Message string
	Details       struct {
		Errors []struct{ Field, Message string }
	}
}

// Error decodes the error envelope.
func (a Answer) Error(t testing.TB) Error {
	t.Helper()
	var e Error
	a.Decode(t, &e)
	return e
}

// Decode decodes the body.
func (a Answer) Decode(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, into); err != nil {
		t.Fatalf("%d %.200q: %v", a.Status, a.Body, err)
	}
}

// Want fails the test unless the answer has the status and, if one is given,
// the error code.
func (a Answer) Want(t testing.TB, status int, code ...string) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("status %d, want %d: %.300s", a.Status, status, a.Body)
	}
	if len(code) > 0 {
		if got := a.Error(t).Code; got != code[0] {
			t.Fatalf("code %s, want %s: %.300s", got, code[0], a.Body)
		}
	}
	return a
}

// Created is the answer to a create.
type Created struct {
	TaskID, Status, ClientRequestID string
	Deduplicated                    bool
}

// Start creates a task with a fresh clientRequestId and returns its id. input
// is a JSON object.
func (c *Client) Start(taskType, input string) string {
	c.t.Helper()
	body, err := json.Marshal(map[string]any{
		"clientRequestId": FreshID(), "taskType": taskType, "input": json.RawMessage(input),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	var created Created
	c.Post("/api/v1/tasks", string(body)).Want(c.t, http.StatusCreated).Decode(c.t, &created)
	return created.TaskID
}

// Finished starts a task, waits for its end and returns its id and whole log.
func (c *Client) Finished(taskType, input string) (string, []Event) {
	c.t.Helper()
	id := c.Start(taskType, input)
	log := c.PollToEnd(id, "")
	CheckLog(c.t, id, log, 1)
	return id, log
}

// Snapshot is a task as it stands.
type Snapshot struct {
	TaskID, TaskType, Status, ClientRequestID string
	CreatedAt, UpdatedAt                      time.Time
	CancellationRequested                     bool
	LastEventID                               *string
	Suspensions                               []json.RawMessage
	Waiting                                   bool
	Terminal                                  *Event
}

// Snapshot reads a task.
func (c *Client) Snapshot(id string) Snapshot {
	c.t.Helper()
	var s Snapshot
	c.Get("/api/v1/tasks/"+id).Want(c.t, http.StatusOK).Decode(c.t, &s)
	return s
}

// Cancel asks for a task's cancellation and returns the answer's status.
func (c *Client) Cancel(id, body string) string {
	c.t.Helper()
	var s struct{ TaskID, Status string }
	c.Post("/api/v1/tasks/"+id+"/cancel", body).Want(c.t, http.StatusAccepted).Decode(c.t, &s)
	if s.TaskID != id {
		c.t.Errorf("cancelled %s, answered for %s", id, s.TaskID)
	}
	return s.Status
}

// query encodes key-value pairs; pairs with an empty value are left out.
func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// host is Base without its scheme.
func (c *Client) host() string { return strings.TrimPrefix(c.Base, "http://") }
