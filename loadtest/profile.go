//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// startProfile fetches a CPU profile of a server while it goes on; the function
// it returns waits for the profile. Without -profile it does nothing.
func (s *stage) startProfile(ctx context.Context, one *server, d time.Duration) (wait func()) {
	if s.profile == "" || one.pprof == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := one.fetch(ctx, fmt.Sprintf("%sprofile?seconds=%d", one.pprof, max(int(d.Seconds()), 1)), s.profile)
		if err != nil {
			s.progress.say("profile: %v", err)
		}
	}()
	return func() { <-done }
}

func (s *server) fetch(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: s.client.Transport} // a profile takes as long as it was asked for
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return toFile(path, func(w io.Writer) error {
		_, err := io.Copy(w, resp.Body)
		return err
	})
}
