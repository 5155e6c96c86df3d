//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// inside is what a Go server says of itself.
type inside struct {
	goroutines   int
	heap, stacks int64 // bytes in use
}

// inspect asks a server's profiles, after a garbage collection; nil without
// -pprof.
func (s *server) inspect(ctx context.Context) (*inside, error) {
	if s.pprof == "" {
		return nil, nil //nolint:nilnil // nothing to say is no error
	}
	heap, err := s.get(ctx, s.pprof+"heap?gc=1&debug=1")
	if err != nil {
		return nil, err
	}
	goroutines, err := s.get(ctx, s.pprof+"goroutine?debug=1")
	if err != nil {
		return nil, err
	}
	in := &inside{}
	if _, err := fmt.Sscanf(goroutines, "goroutine profile: total %d", &in.goroutines); err != nil {
		return nil, fmt.Errorf("goroutine profile: %w", err)
	}
	for line := range strings.Lines(heap) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), " = ")
		if !ok {
			continue
		}
		value, _, _ = strings.Cut(value, " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "HeapAlloc":
			in.heap = n
		case "Stack":
			in.stacks = n
		}
	}
	return in, nil
}

func (s *server) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}
