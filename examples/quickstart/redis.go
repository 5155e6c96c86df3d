package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
)

// redisStore keeps tasks in Redis, where every host sees them, and attachments
// where this host does.
type redisStore struct {
	*rueidisstore.Store
	engine.AttachmentStore
	files io.Closer
}

func (s redisStore) Close() error { return errors.Join(s.Store.Close(), s.files.Close()) }

func newRedisStore(ctx context.Context, s settings, logger *slog.Logger) (store, error) {
	option, err := redisOption(s.redis)
	if err != nil {
		return nil, err
	}
	files, err := newMemoryStore(s, logger)
	if err != nil {
		return nil, err
	}
	tasks, err := rueidisstore.NewContext(ctx, rueidisstore.Config{
		Redis:           option,
		Prefix:          s.redisPrefix,
		MaxStreamLength: s.maxStreamLength,
		StreamTTL:       s.streamTTL,
		Attachments:     files,
		Logger:          logger,
	})
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	// Addresses only: the URL may hold a password.
	logger.Info("tasks are kept in Redis", "at", option.InitAddress, "prefix", s.redisPrefix)
	return redisStore{tasks, files, files}, nil
}

// The address may hold a password: errors repeat nothing of it.
var (
	errRedisURL = errors.New("-redis (REDIS_URL) must be redis://[user:password@]host:port[/db] (rediss:// with TLS), " +
		"with commas between the addresses of a Cluster, or redis+sentinel://[user:password@]host:port,host:port/master[/db]")
	errRedisMaster = errors.New("-redis (REDIS_URL): a Sentinel URL must name the master set, as in redis+sentinel://host:port,host:port/master")
)

// redisOption reads the three forms of -redis: one server, the addresses of a
// Cluster (with or without redis:// before them), Sentinels. User and password
// are those of the servers; what the Sentinels themselves ask for is the
// query's sentinel_user and sentinel_password.
func redisOption(s string) (rueidis.ClientOption, error) {
	var none rueidis.ClientOption
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "redis", s
	}
	base, sentinel := strings.CutSuffix(scheme, "+sentinel")
	if base != "redis" && base != "rediss" {
		return none, errRedisURL
	}
	rest = strings.ReplaceAll(rest, ","+scheme+"://", ",")
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	var master string
	if sentinel {
		if master, path, _ = strings.Cut(path, "/"); master == "" {
			return none, errRedisMaster
		}
	}
	at := strings.LastIndexByte(authority, '@') + 1
	user, hosts := authority[:at], strings.Split(authority[at:], ",")
	if path != "" {
		path = "/" + path
	}

	var option rueidis.ClientOption
	var addrs []string
	for _, host := range hosts {
		if sentinel && !hasPort(host) {
			host += ":26379"
		}
		one, err := rueidis.ParseURL(base + "://" + user + host + path + "?" + query)
		if err != nil || strings.Contains(host, "@") {
			return none, errRedisURL
		}
		option, addrs = one, append(addrs, one.InitAddress...)
	}
	option.InitAddress = addrs
	if option.TLSConfig != nil && len(addrs) > 1 {
		option.TLSConfig.ServerName = "" // each server goes by its own
	}
	if sentinel {
		values, err := url.ParseQuery(query)
		if err != nil {
			return none, errRedisURL
		}
		option.Sentinel = rueidis.SentinelOption{
			MasterSet: master, TLSConfig: option.TLSConfig,
			Username: values.Get("sentinel_user"), Password: values.Get("sentinel_password"),
		}
	}
	return option, nil
}

func hasPort(host string) bool {
	_, _, err := net.SplitHostPort(host)
	return err == nil
}
