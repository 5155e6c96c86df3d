package rueidisstore

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Keepalives and timeouts that notice a hung server within seconds, where
// rueidis's own take twelve.
const keepAlive = 500 * time.Millisecond

// baseOption is what both clients have in common.
func (c Config) baseOption() rueidis.ClientOption {
	opt := c.Redis
	// rueidis may shuffle the addresses in place.
	opt.InitAddress = append([]string(nil), opt.InitAddress...)
	if opt.Dialer.Timeout == 0 {
		opt.Dialer.Timeout = c.CommandTimeout
	}
	if opt.Dialer.KeepAlive == 0 {
		opt.Dialer.KeepAlive = keepAlive
	}
	if opt.ConnWriteTimeout == 0 {
		opt.ConnWriteTimeout = c.CommandTimeout
	}
	if opt.RetryDelay == nil {
		opt.RetryDelay = retryDelay
	}
	if opt.Sentinel.MasterSet != "" && opt.Sentinel.TopologyRefreshInterval == 0 {
		// A missed switch of the primary would last for ever otherwise.
		opt.Sentinel.TopologyRefreshInterval = 5 * time.Second
	}
	return opt
}

// retryDelay lets reads survive a lost connection, and gives up quickly when
// there is no server: whoever asked is told to come back.
func retryDelay(attempts int, _ rueidis.Completed, _ error) time.Duration {
	if attempts > 3 {
		return -1
	}
	return time.Duration(attempts) * 10 * time.Millisecond
}

// commandOption is for the client of commands, scripts and cached reads.
func (c Config) commandOption() rueidis.ClientOption {
	opt := c.baseOption()
	opt.CacheSizeEachConn = max(c.CacheBytes/c.Append.Connections, 1)
	opt.MaxFlushDelay = max(opt.MaxFlushDelay, c.Append.MaxFlushDelay)
	if opt.PipelineMultiplex == 0 {
		opt.PipelineMultiplex = -1 // one connection
		if n := c.Append.Connections; n > 1 {
			opt.PipelineMultiplex = bits.TrailingZeros(uint(n))
		}
	}
	return opt
}

// connect makes the client of commands. Without tracking on the server (too old
// or proxied, RESP2 only, ACL) nothing is cached.
func connect(cfg Config, conns *links) (rueidis.Client, error) {
	opt := cfg.commandOption()
	conns.through(&opt)
	client, err := rueidis.NewClient(opt)
	if errors.Is(err, rueidis.ErrNoCache) && !opt.DisableCache {
		cfg.Logger.Warn("rueidisstore: this Redis cannot track keys; records are read anew each time")
		opt.DisableCache = true
		client, err = rueidis.NewClient(opt)
	}
	if err != nil {
		return nil, fmt.Errorf("rueidisstore: connect to %s: %w", strings.Join(cfg.Redis.InitAddress, ", "), err)
	}
	return watch(client, conns), nil
}

// serverVersion is major and minor.
type serverVersion struct{ major, minor int }

func (v serverVersion) less(o serverVersion) bool {
	return v.major < o.major || v.major == o.major && v.minor < o.minor
}

func (v serverVersion) String() string { return strconv.Itoa(v.major) + "." + strconv.Itoa(v.minor) }

var (
	// XADD NOMKSTREAM, XTRIM MINID and exclusive ranges came with it.
	oldestServer = serverVersion{6, 2}
	// WAITAOF came with it.
	oldestFsync = serverVersion{7, 2}
)

// checkServers looks at every server that the client knows, as far as the ACL
// lets it.
func (s *Store) checkServers(ctx context.Context) error {
	for addr, node := range s.client.Nodes() {
		ctx, done := s.bound(ctx)
		info, err := node.Do(ctx, node.B().Info().Build()).ToString()
		done()
		if err != nil {
			if answer := asAnswer(err); answer != "" && !isPassing(answer) {
				s.cfg.Logger.Debug("rueidisstore: INFO is not allowed; version and role are not checked", "error", err)
				continue
			}
			if s.client.Mode() == rueidis.ClientModeCluster {
				continue // a Cluster may be up without one of its nodes
			}
			return fmt.Errorf("rueidisstore: %s: %w", addr, err)
		}
		if err := s.checkInfo(parseInfo(info)); err != nil {
			return fmt.Errorf("rueidisstore: %s: %w", addr, err)
		}
	}
	return nil
}

// checkInfo refuses a server that cannot hold the data, and warns of one that
// will lose it.
func (s *Store) checkInfo(info map[string]string) error {
	version, err := parseVersion(info["redis_version"])
	switch {
	case err != nil:
		s.cfg.Logger.Warn("rueidisstore: the server does not tell its version", "error", err)
	case version.less(oldestServer):
		return fmt.Errorf("redis %s is too old, %s or later is needed", info["redis_version"], oldestServer)
	case s.cfg.Wait.Fsync && version.less(oldestFsync):
		return fmt.Errorf("redis %s has no WAITAOF (%s has): Config.Wait.Fsync cannot be met", info["redis_version"], oldestFsync)
	}
	if s.cfg.Wait.Fsync && info["aof_enabled"] == "0" {
		return errors.New("appendonly is off: Config.Wait.Fsync cannot be met")
	}
	replica := info["role"] == "slave"
	if replica && s.client.Mode() != rueidis.ClientModeCluster {
		return errors.New("it is a replica and takes no writes; give the primary's address, or Sentinel.MasterSet")
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" && info["maxmemory"] != "0" {
		s.cfg.Logger.Warn("rueidisstore: with this maxmemory-policy Redis may evict tasks that are running; use noeviction",
			"policy", policy)
	}
	return nil
}

func parseInfo(info string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

func parseVersion(s string) (v serverVersion, err error) {
	major, rest, _ := strings.Cut(s, ".")
	minor, _, _ := strings.Cut(rest, ".")
	if v.major, err = strconv.Atoi(major); err != nil {
		return v, fmt.Errorf("version %q", s)
	}
	if v.minor, err = strconv.Atoi(minor); err != nil {
		return v, fmt.Errorf("version %q", s)
	}
	return v, nil
}
