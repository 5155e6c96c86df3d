package rueidisstore

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

func TestConfig(t *testing.T) {
	valid := func() Config { return Config{Redis: rueidis.ClientOption{InitAddress: []string{"x:1"}}} }
	if err := valid().withDefaults().validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	// No duration or size is left at zero, but where zero means none.
	zero := []string{"Append.MaxFlushDelay", "Wait.Replicas", "Wait.Fsync", "IDSecret", "Attachments", "Subjects.MaxTasks", "Subjects.MaxBytes"}
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			name := prefix + v.Type().Field(i).Name
			if f := v.Field(i); f.Kind() == reflect.Struct && name != "Redis" {
				walk(name+".", f)
			} else if f.IsZero() && !strings.Contains(strings.Join(zero, " "), name) {
				t.Errorf("%s has no default", name)
			}
		}
	}
	walk("", reflect.ValueOf(valid().withDefaults()))

	for want, spoil := range map[string]func(*Config){
		"Redis.InitAddress":           func(c *Config) { c.Redis.InitAddress = nil },
		"Redis.ReplicaOnly":           func(c *Config) { c.Redis.ReplicaOnly = true },
		"Redis.SendToReplicas":        func(c *Config) { c.Redis.SendToReplicas = func(rueidis.Completed) bool { return true } },
		"Redis.DisableAutoPipelining": func(c *Config) { c.Redis.DisableAutoPipelining = true },
		"Prefix":                      func(c *Config) { c.Prefix = "a{b}" },
		"IDSecret":                    func(c *Config) { c.IDSecret = []byte("short") },
		"MaxStreamLength":             func(c *Config) { c.MaxStreamLength = -1 },
		"MaxStreamBytes":              func(c *Config) { c.MaxStreamBytes = -1 },
		"StreamTTL":                   func(c *Config) { c.StreamTTL = time.Microsecond },
		"RecordTTL":                   func(c *Config) { c.RecordTTL = -1 },
		"MaxOpenAge":                  func(c *Config) { c.MaxOpenAge = -1 },
		"CleanupInterval":             func(c *Config) { c.CleanupInterval = -1 },
		"CacheTTL":                    func(c *Config) { c.CacheTTL = -1 },
		"CacheBytes":                  func(c *Config) { c.CacheBytes = -1 },
		"CommandTimeout":              func(c *Config) { c.CommandTimeout = -1 },
		"Actions.MaxOpen":             func(c *Config) { c.Actions.MaxOpen = -1 },
		"Actions.MaxResolved":         func(c *Config) { c.Actions.MaxResolved = -1 },
		"Actions.TTL":                 func(c *Config) { c.Actions.TTL = -1 },
		"Append.MaxFlushDelay":        func(c *Config) { c.Append.MaxFlushDelay = -1 },
		"Append.Connections":          func(c *Config) { c.Append.Connections = 3 },
		"Wait.Replicas":               func(c *Config) { c.Wait.Replicas = -1 },
		"Wait.Timeout":                func(c *Config) { c.Wait.Timeout = -1 },
		"Tail.Round":                  func(c *Config) { c.Tail.Round = -1 },
		"Tail.SweepInterval":          func(c *Config) { c.Tail.SweepInterval = -1 },
		"Tail.PollInterval":           func(c *Config) { c.Tail.PollInterval = -1 },
		"Tail.ReadTimeout":            func(c *Config) { c.Tail.ReadTimeout = -1 },
	} {
		c := valid()
		spoil(&c)
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	var total time.Duration
	for n := 1; ; n++ {
		d := retryDelay(n, rueidis.Completed{}, nil)
		if d < 0 {
			break
		}
		if total += d; n > 10 {
			t.Fatal("it never gives up")
		}
	}
	if total > 200*time.Millisecond {
		t.Errorf("who asks while there is no server waits for %v", total)
	}
}
