package fiberbridge

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// nodes is one service: on Redis two hosts, on the embedded store one that is
// both. Clients are on there, the operator is on here.
type nodes struct{ here, there *streamHost }

var redisPrefixes atomic.Int64

// overStores runs a test on both stores, with plain sockets taken over and not,
// all at once.
func overStores(t *testing.T, f func(t *testing.T, start func(setup hostSetup) nodes)) {
	var redis *redistest.Instance
	if !testing.Short() { // make quick does without a server
		redis = redistest.Server(t)
	}
	for _, portable := range []bool{false, true} {
		path := map[bool]string{false: "taken over", true: "portable"}[portable]
		with := func(t *testing.T, setup hostSetup) hostSetup {
			inner := setup.bridge
			setup.bridge = func(c *Config) {
				c.Auth = fullAuth
				c.Streams.DisableFastPath = portable
				if inner != nil {
					inner(c)
				}
			}
			return setup
		}
		t.Run("memory, "+path, func(t *testing.T) {
			t.Parallel()
			f(t, func(setup hostSetup) nodes {
				h := startHost(t, with(t, setup))
				return nodes{h, h}
			})
		})
		if redis == nil {
			continue
		}
		t.Run("redis, "+path, func(t *testing.T) {
			t.Parallel()
			f(t, func(setup hostSetup) nodes {
				prefix := fmt.Sprint("access-", redisPrefixes.Add(1))
				setup = with(t, setup)
				inner := setup.wrap
				setup.wrap = func(mem engine.Store) engine.Store {
					_ = mem.(io.Closer).Close()
					var store engine.Store = openRedis(t, redis, prefix)
					if inner != nil {
						store = inner(store)
					}
					return store
				}
				return nodes{startHost(t, setup), startHost(t, setup)}
			})
		})
	}
}

func openRedis(t *testing.T, redis *redistest.Instance, prefix string) *rueidisstore.Store {
	t.Helper()
	store, err := rueidisstore.New(rueidisstore.Config{
		Redis: rueidis.ClientOption{InitAddress: []string{redis.Addr()}}, Prefix: prefix,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// fullAuth takes a token that is a query: sub, scope, app, iat, exp (both in
// milliseconds), and attributes with any other names. A plain word is a subject.
func fullAuth(c *fiber.Ctx) (engine.AuthContext, error) {
	token := strings.TrimPrefix(c.Get("Authorization"), "Bearer ")
	if token == "" {
		token = c.Query("access_token")
	}
	if !strings.Contains(token, "=") {
		return engine.AuthContext{Subject: token}, nil
	}
	said, err := url.ParseQuery(token)
	if err != nil {
		return engine.AuthContext{}, err
	}
	auth := engine.AuthContext{Attributes: map[string]string{}}
	for name := range said {
		value := said.Get(name)
		switch name {
		case "sub":
			auth.Subject = value
		case "scope":
			auth.Scopes = strings.Fields(value)
		case "app":
			auth.AppID = value
		case "iat", "exp":
			ms, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return engine.AuthContext{}, err
			}
			if name == "iat" {
				auth.IssuedAt = time.UnixMilli(ms)
			} else {
				auth.ExpiresAt = time.UnixMilli(ms)
			}
		default:
			auth.Attributes[name] = value
		}
	}
	return auth, nil
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// revoke revokes, and lifts it again when the test is over.
func (n nodes) revoke(t *testing.T, r engine.Revocation) engine.Revocation {
	t.Helper()
	r, err := n.here.eng.Revoke(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantRevoked reads an SSE stream to its end: the notice, and a cut.
func (c *sseClient) wantClosing(t *testing.T, reason string) {
	t.Helper()
	b := c.named(t, "closing")
	if !strings.Contains(b.data, `"reason":"`+reason+`"`) || b.retry == "" {
		t.Errorf("closing notice %+v, want %s", b, reason)
	}
	if _, clean := c.rest(t); clean {
		t.Error("the stream ended as if the task were over")
	}
}

// soon bounds what must be felt at once: in milliseconds, on a machine that has
// nothing else to do. Nothing here comes round by itself before many seconds.
func soon(t *testing.T, began time.Time) {
	t.Helper()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}
