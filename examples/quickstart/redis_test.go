package main

import (
	"slices"
	"strings"
	"testing"
)

func TestRedisAddresses(t *testing.T) {
	for _, c := range []struct {
		in             string
		addrs          string
		user, password string
		db             int
		tls            string // server name, "-" without TLS
		master         string
		sentinelUser   string
	}{
		{in: "redis://localhost", addrs: "localhost:6379", tls: "-"},
		{in: "redis://10.0.0.1:7000/3", addrs: "10.0.0.1:7000", db: 3, tls: "-"},
		{in: "redis://ann:p%40ss%2Fw%2Crd@h:1", addrs: "h:1", user: "ann", password: "p@ss/w,rd", tls: "-"},
		{in: "redis://:pw@h:1", addrs: "h:1", password: "pw", tls: "-"},
		{in: "rediss://ann:pw@h:1", addrs: "h:1", user: "ann", password: "pw", tls: "h"},
		{in: "redis://[::1]:7000", addrs: "[::1]:7000", tls: "-"},
		{in: "a:1,b:2,c:3", addrs: "a:1 b:2 c:3", tls: "-"},
		{in: "redis://ann:pw@a:1,b:2,c", addrs: "a:1 b:2 c:6379", user: "ann", password: "pw", tls: "-"},
		{in: "redis://a:1,redis://b:2", addrs: "a:1 b:2", tls: "-"},
		{in: "rediss://a:1,b:2", addrs: "a:1 b:2", tls: ""},
		{in: "redis+sentinel://a:1,b/main", addrs: "a:1 b:26379", master: "main", tls: "-"},
		{
			in: "redis+sentinel://ann:pw@a:1,b:2/main/4?sentinel_user=eve&sentinel_password=x", addrs: "a:1 b:2",
			master: "main", user: "ann", password: "pw", db: 4, tls: "-", sentinelUser: "eve:x",
		},
		{in: "rediss+sentinel://a:1/main", addrs: "a:1", master: "main", tls: "a"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := redisOption(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.InitAddress, strings.Fields(c.addrs)) || got.Username != c.user || got.Password != c.password ||
				got.SelectDB != c.db || got.Sentinel.MasterSet != c.master {
				t.Errorf("got %+v", got)
			}
			if sent := got.Sentinel.Username + ":" + got.Sentinel.Password; c.sentinelUser != "" && sent != c.sentinelUser {
				t.Errorf("the Sentinels are asked as %q", sent)
			}
			name := "-"
			if got.TLSConfig != nil {
				name = got.TLSConfig.ServerName
			}
			if name != c.tls {
				t.Errorf("TLS for %q, want %q", name, c.tls)
			}
		})
	}
}

func TestRedisAddressesThatAreNone(t *testing.T) {
	for _, in := range []string{
		"http://:hush@h", "redis://:hush@h:port", "redis://:hush@h:1/db", "redis://:hush@h:1/1/2",
		"redis+sentinel://:hush@a:1", "redis+sentinel://:hush@a:1/", "redis+sentinel://:hush@a:1/main/one", "redis://:hush%zz@h",
		"redis+sentinel://:hush@a:1/main?a=%zz",
	} {
		got, err := redisOption(in)
		if err == nil {
			t.Errorf("%q gave %+v", in, got)
			continue
		}
		if strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "REDIS_URL") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzRedisOption(f *testing.F) {
	for _, s := range []string{"redis://a", "a:1,b:2", "redis+sentinel://u:p@a:1,b/m/1?x=y", "rediss://[::1]:1/2?skip_verify"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		option, err := redisOption(s)
		if err == nil && len(option.InitAddress) == 0 {
			t.Errorf("%q gives no address", s)
		}
	})
}
