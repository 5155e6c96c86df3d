package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// settings is what the command line and the environment choose. A zero
// duration or count stands for the library's default; a negative flush for no
// pause between writes.
type settings struct {
	addr        string
	redis       string
	redisPrefix string
	uploadDir   string
	pprof       string

	heartbeat        time.Duration
	flush            time.Duration
	maxFlush         time.Duration
	drain            time.Duration
	streamTTL        time.Duration
	subscribeTimeout time.Duration
	pongTimeout      time.Duration
	writeTimeout     time.Duration

	maxStreamLength int
	maxStreams      int
}

// parseSettings reads args (without the program's name) and, for flags that
// args leave out, environment variables: -max-streams is MAX_STREAMS, except
// that -redis is REDIS_URL. An empty variable counts as not set. Usage goes to
// usage; flag.ErrHelp says that it was asked for.
func parseSettings(args []string, getenv func(string) string, usage io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned; usage is printed below

	fs.StringVar(&s.addr, "addr", "127.0.0.1:8080", "listen on this `host:port`; port 0 picks a free one")
	fs.StringVar(&s.redis, "redis", "", "a redis:// or rediss:// `URL`, comma-separated addresses of a Cluster, or redis+sentinel://host:port,host:port/master; empty: the embedded store")
	fs.StringVar(&s.redisPrefix, "redis-prefix", "taskbridge", "`prefix` of every Redis key")
	fs.StringVar(&s.uploadDir, "upload-dir", "", "keep attachments in this `directory`; empty: in memory, where other hosts on the same Redis cannot read them")
	fs.StringVar(&s.pprof, "pprof", "", "serve Go's profiles, to whoever asks, on this `host:port`; empty: nowhere")
	fs.DurationVar(&s.heartbeat, "heartbeat", 0, "heartbeat `interval` of SSE and WebSocket; 0: the library's defaults")
	fs.DurationVar(&s.flush, "flush", 0, "shortest `time` between two writes to one busy subscriber; 0: each event at once (default: the library's)")
	fs.DurationVar(&s.maxFlush, "max-flush", 0, "how far that `time` grows under load, at least -flush; 0: the library's default")
	fs.DurationVar(&s.drain, "drain", 10*time.Second, "how long SIGTERM may take, a `duration`")
	fs.IntVar(&s.maxStreamLength, "max-stream-length", 0, "retained events per task, a `count`; 0: the library's default, 1000")
	fs.DurationVar(&s.streamTTL, "stream-ttl", 0, "how long a finished task's log is kept, a `duration`; 0: the library's default")
	fs.DurationVar(&s.subscribeTimeout, "subscribe-timeout", 0, "`time` for a WebSocket's first frame; 0: the library's default")
	fs.DurationVar(&s.pongTimeout, "pong-timeout", 0, "`time` for a silent WebSocket peer to answer a ping; 0: the library's default")
	fs.DurationVar(&s.writeTimeout, "write-timeout", 0, "cut a subscriber that takes nothing for this `time`; 0: the library's default")
	fs.IntVar(&s.maxStreams, "max-streams", 0, "SSE and WebSocket streams at once, a `count`; 0: the library's default")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(usage)
			_, _ = fmt.Fprintln(usage, "The TaskBridge demo host. Every flag is also an environment variable: -max-streams is MAX_STREAMS,\n-redis is REDIS_URL; a flag wins.")
			fs.PrintDefaults()
		}
		return settings{}, err
	}
	if fs.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q: only flags are understood", fs.Arg(0))
	}
	if err := fromEnvironment(fs, getenv); err != nil {
		return settings{}, err
	}
	if err := s.validate(); err != nil {
		return settings{}, err
	}
	fs.Visit(func(f *flag.Flag) {
		if f.Name == "flush" && s.flush == 0 {
			s.flush = -1 // no pause was asked for, and not the default
		}
	})
	return s, nil
}

// fromEnvironment sets the flags that the command line left out.
func fromEnvironment(fs *flag.FlagSet, getenv func(string) string) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var failed error
	fs.VisitAll(func(f *flag.Flag) {
		name := variable(f.Name)
		value := getenv(name)
		if failed != nil || given[f.Name] || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("invalid value %q for environment variable %s: %w", value, name, err)
		}
	})
	return failed
}

// variable is the environment variable that means the same as a flag.
func variable(flagName string) string {
	if flagName == "redis" {
		return "REDIS_URL"
	}
	return strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

func (s settings) validate() error {
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"heartbeat", s.heartbeat},
		{"flush", s.flush},
		{"max-flush", s.maxFlush},
		{"stream-ttl", s.streamTTL},
		{"subscribe-timeout", s.subscribeTimeout},
		{"pong-timeout", s.pongTimeout},
		{"write-timeout", s.writeTimeout},
	} {
		if f.value < 0 {
			return fmt.Errorf("-%s (%s) must not be negative: %s", f.name, variable(f.name), f.value)
		}
	}
	if s.drain <= 0 {
		return fmt.Errorf("-drain (DRAIN) must be positive: %s", s.drain)
	}
	if s.maxStreamLength < 0 {
		return fmt.Errorf("-max-stream-length (MAX_STREAM_LENGTH) must not be negative: %d", s.maxStreamLength)
	}
	if s.maxStreams < 0 {
		return fmt.Errorf("-max-streams (MAX_STREAMS) must not be negative: %d", s.maxStreams)
	}
	if s.addr == "" {
		return errors.New("-addr (ADDR) must not be empty")
	}
	if s.redis != "" {
		if _, err := redisOption(s.redis); err != nil {
			return err
		}
	}
	return nil
}
