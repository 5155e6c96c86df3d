package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for _, pair := range pairs {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func TestSettingsDefaults(t *testing.T) {
	got, err := parseSettings(nil, environment(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := settings{addr: "127.0.0.1:8080", redisPrefix: "taskbridge", drain: 10 * time.Second}
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestEveryFlagAndItsVariable(t *testing.T) {
	want := settings{
		addr: "127.0.0.1:0", redisPrefix: "p", uploadDir: "d",
		heartbeat: time.Second, flush: 2 * time.Millisecond, maxFlush: 9 * time.Millisecond,
		drain: 3 * time.Second, streamTTL: time.Minute,
		subscribeTimeout: 4 * time.Second, pongTimeout: 5 * time.Second, writeTimeout: 6 * time.Second,
		maxStreamLength: 7, maxStreams: 8,
	}
	args := []string{
		"-addr", "127.0.0.1:0", "-redis-prefix=p", "-upload-dir=d", "-heartbeat=1s", "-flush=2ms", "-max-flush=9ms", "-drain=3s", "-stream-ttl=1m",
		"-subscribe-timeout=4s", "-pong-timeout=5s", "-write-timeout=6s", "-max-stream-length=7", "-max-streams=8",
	}
	variables := environment(
		"ADDR=127.0.0.1:0", "REDIS_PREFIX=p", "UPLOAD_DIR=d", "HEARTBEAT=1s", "FLUSH=2ms", "MAX_FLUSH=9ms", "DRAIN=3s", "STREAM_TTL=1m",
		"SUBSCRIBE_TIMEOUT=4s", "PONG_TIMEOUT=5s", "WRITE_TIMEOUT=6s", "MAX_STREAM_LENGTH=7", "MAX_STREAMS=8",
	)
	others := environment(
		"ADDR=x:1", "REDIS_PREFIX=x", "UPLOAD_DIR=x", "HEARTBEAT=9s", "FLUSH=9s", "MAX_FLUSH=9s", "DRAIN=9s", "STREAM_TTL=9s",
		"SUBSCRIBE_TIMEOUT=9s", "PONG_TIMEOUT=9s", "WRITE_TIMEOUT=9s", "MAX_STREAM_LENGTH=9", "MAX_STREAMS=9",
	)
	for _, c := range []struct {
		name   string
		args   []string
		getenv func(string) string
	}{
		{"flags", args, environment()},
		{"variables", nil, variables},
		{"flags win", args, others},
		{"a flag wins over a variable that does not parse", args, environment("HEARTBEAT=often", "MAX_STREAMS=many")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseSettings(c.args, c.getenv, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for _, c := range []struct {
		args   []string
		env    string
		naming []string
	}{
		{args: []string{"-heartbeat", "often"}, naming: []string{"-heartbeat", "often"}},
		{args: []string{"-heartbeat", "-1s"}, naming: []string{"-heartbeat", "HEARTBEAT", "negative"}},
		{args: []string{"-drain", "0s"}, naming: []string{"-drain", "positive"}},
		{args: []string{"-max-streams", "-1"}, naming: []string{"-max-streams", "negative"}},
		{args: []string{"-max-stream-length", "1.5"}, naming: []string{"-max-stream-length"}},
		{args: []string{"-addr", ""}, naming: []string{"-addr"}},
		{args: []string{"-port", "80"}, naming: []string{"-port"}},
		{args: []string{"serve"}, naming: []string{"serve", "unexpected"}},
		{args: []string{"-redis", "http://:secret@localhost"}, naming: []string{"-redis", "REDIS_URL", "redis://"}},
		{env: "REDIS_URL=redis+sentinel://:secret@localhost", naming: []string{"-redis", "REDIS_URL", "master"}},
		{env: "MAX_STREAMS=many", naming: []string{"MAX_STREAMS", "many"}},
		{env: "STREAM_TTL=-1m", naming: []string{"STREAM_TTL", "negative"}},
	} {
		t.Run(strings.Join(c.args, " ")+c.env, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(c.args, environment(c.env), &stdout, &stderr, nil); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, word := range c.naming {
				if !strings.Contains(stderr.String(), word) {
					t.Errorf("%q does not say %q", stderr.String(), word)
				}
			}
			if strings.Contains(stderr.String(), "secret") {
				t.Errorf("%q gives a password away", stderr.String())
			}
			if stdout.Len() != 0 {
				t.Errorf("standard output: %q", stdout.String())
			}
		})
	}
}

func TestFlushOfZeroIsNotTheDefault(t *testing.T) {
	for args, want := range map[string]time.Duration{"-flush=0": -1, "-flush=0s": -1, "-flush=1ms": time.Millisecond, "-drain=1s": 0} {
		if got, err := parseSettings([]string{args}, environment(), io.Discard); err != nil || got.flush != want {
			t.Errorf("%s: %s, %v", args, got.flush, err)
		}
	}
	if got, err := parseSettings(nil, environment("FLUSH=0"), io.Discard); err != nil || got.flush != -1 {
		t.Errorf("FLUSH=0: %s, %v", got.flush, err)
	}
	if _, err := parseSettings([]string{"-flush=-1ms"}, environment(), io.Discard); err == nil {
		t.Error("a negative one is taken")
	}
}

func TestUsage(t *testing.T) {
	var usage bytes.Buffer
	_, err := parseSettings([]string{"-h"}, environment(), &usage)
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("error %v", err)
	}
	for _, word := range []string{"-addr", "127.0.0.1:8080", "-max-stream-length", "1000", "REDIS_URL"} {
		if !strings.Contains(usage.String(), word) {
			t.Errorf("usage does not say %q", word)
		}
	}
	if code := run([]string{"-h"}, environment(), io.Discard, io.Discard, nil); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
