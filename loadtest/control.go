//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
)

// server is one server under load, and how to talk to it.
type server struct {
	base   string // URL up to /tasks
	target crowd.Target
	token  string
	client *http.Client
	proc   *measured // nil: not ours, and no -pid
	pprof  string    // URL, "" without
}

// newServer takes a URL: a host's root (then the base path is /api/v1) or a
// base path.
func (s *stage) newServer(ctx context.Context, raw string) (*server, error) {
	u, err := url.Parse(strings.TrimSuffix(raw, "/"))
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an http:// URL", raw)
	}
	if u.Path == "" {
		u.Path = "/api/v1"
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Hostname())
	if err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(addrs[0].Unmap().String(), port))
	if err != nil {
		return nil, err
	}
	one := &server{
		base:   u.String(),
		target: crowd.Target{Addr: addr, Host: u.Host, Base: u.Path},
		token:  s.subject,
		client: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64},
		},
	}
	s.clients = append(s.clients, one.client)
	return one, nil
}

// create makes a task and returns its id. A passing refusal is tried again.
func (s *server) create(ctx context.Context, taskType string, input any) (string, error) {
	body, err := json.Marshal(map[string]any{"clientRequestId": "load-" + rand.Text(), "taskType": taskType, "input": input})
	if err != nil {
		return "", err
	}
	var created struct {
		TaskID string `json:"taskId"`
	}
	for try := 0; ; try++ {
		status, answer, err := s.call(ctx, http.MethodPost, "/tasks", body)
		switch {
		case err == nil && (status == http.StatusCreated || status == http.StatusOK):
			if err := json.Unmarshal(answer, &created); err != nil || created.TaskID == "" {
				return "", fmt.Errorf("create: an answer without taskId: %.200s", answer)
			}
			return created.TaskID, nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case try == 20 || err == nil && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
			if err == nil {
				err = fmt.Errorf("status %d: %.300s", status, answer)
			}
			return "", fmt.Errorf("create a task at %s: %w", s.base, err)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return "", ctx.Err()
		}
	}
}

func (s *server) cancel(ctx context.Context, taskID string) error {
	status, answer, err := s.call(ctx, http.MethodPost, "/tasks/"+taskID+"/cancel", []byte("{}"))
	if err == nil && status != http.StatusAccepted {
		err = fmt.Errorf("cancel: status %d: %.300s", status, answer)
	}
	return err
}

func (s *server) call(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, answer, err
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// until polls cond, and reports false if ctx or the time ended first.
func until(ctx context.Context, patience time.Duration, cond func() bool) bool {
	limit := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(limit) || !pause(ctx, 5*time.Millisecond) {
			return false
		}
	}
	return true
}
