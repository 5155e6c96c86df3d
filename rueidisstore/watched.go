package rueidisstore

import (
	"context"
	"time"

	"github.com/redis/rueidis"
)

// wrongServer are the beginnings of answers by a server that does not take our
// writes: a replica, a primary that was demoted, or one to which a proxy has
// connected without logging in. A client that knows an address and no topology may
// reach the right server by a new connection.
var wrongServer = []string{"READONLY", "MASTERDOWN", "REDIRECT", "UNBLOCKED", "NOAUTH"}

// maybeWrongServer are the beginnings of answers by a server that may be the right
// one and needs time (it loads its data), or that another primary has replaced and
// taken the replicas from.
var maybeWrongServer = []string{"LOADING", "NOREPLICAS"}

// watched is a client, of one server or under Sentinel, that drops connections
// which lead to the wrong server. A Cluster's client needs no such thing: a demoted
// node answers MOVED.
type watched struct {
	rueidis.Client
	links *links
}

// watch returns client, whose connections come from l, as a watched client. A
// Cluster's is returned as it is.
func watch(client rueidis.Client, l *links) rueidis.Client {
	if client.Mode() == rueidis.ClientModeCluster {
		return client
	}
	return &watched{client, l}
}

// Do implements rueidis.Client.
func (c *watched) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	before := c.links.dialed.Load()
	answer := c.Client.Do(ctx, cmd)
	c.judge(before, answer.Error())
	return answer
}

// DoMulti implements rueidis.Client.
func (c *watched) DoMulti(ctx context.Context, multi ...rueidis.Completed) []rueidis.RedisResult {
	before := c.links.dialed.Load()
	answers := c.Client.DoMulti(ctx, multi...)
	for i := range answers {
		c.judge(before, answers[i].Error())
	}
	return answers
}

// DoCache implements rueidis.Client.
func (c *watched) DoCache(ctx context.Context, cmd rueidis.Cacheable, ttl time.Duration) rueidis.RedisResult {
	before := c.links.dialed.Load()
	answer := c.Client.DoCache(ctx, cmd, ttl)
	c.judge(before, answer.Error())
	return answer
}

// Dedicated implements rueidis.Client.
func (c *watched) Dedicated(fn func(rueidis.DedicatedClient) error) error {
	before := c.links.dialed.Load()
	return c.Client.Dedicated(func(d rueidis.DedicatedClient) error {
		return fn(&watchedDedicated{d, c, before})
	})
}

// watchedDedicated is a connection of the pool.
type watchedDedicated struct {
	rueidis.DedicatedClient
	of     *watched
	before uint64
}

// Do implements rueidis.DedicatedClient.
func (c *watchedDedicated) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	answer := c.DedicatedClient.Do(ctx, cmd)
	c.of.judge(c.before, answer.Error())
	return answer
}

// judge drops connections if err is a wrong server's answer. before is the number of
// connections that had been made when the command began.
func (c *watched) judge(before uint64, err error) {
	if err == nil || rueidis.IsRedisNil(err) {
		return
	}
	answer := asAnswer(err)
	certain := isWrongServer(answer)
	if !certain && !begins(answer, maybeWrongServer) {
		return
	}
	// Connections to Sentinels stay.
	var addrs []string
	for addr := range c.Nodes() {
		addrs = append(addrs, addr)
	}
	c.links.drop(before, certain, answer, addrs)
}

func isWrongServer(answer string) bool { return begins(answer, wrongServer) }
