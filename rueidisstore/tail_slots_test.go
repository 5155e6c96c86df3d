package rueidisstore

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/redis/rueidis"
)

// Whatever a server says about its slots, there is no range outside of them and
// no address that cannot be dialled. The replies are made by Redis, from JSON.
func FuzzParseSlots(f *testing.F) {
	for _, seed := range []string{
		`[[0,5460,["127.0.0.1",7000,"id"]],[5461,16383,["::1",7001,"id",[]]]]`,
		`[[0,16383,["",7000]]]`, `[[0,1,["?",7000]]]`, `[[5,3,["a",1]]]`, `[[-1,3,["a",1]]]`, `[[0,16384,["a",1]]]`,
		`[[0,1]]`, `[]`, `[[]]`, `["x",[1,2,3]]`, `[[0,1,[]]]`, `[[0,1,["a"]]]`, `[[0,1,["a","b"]]]`, `[[0,1,[["a"],1]]]`,
		`[["0","1",["a","7000"]]]`, `[[0,1,["a:b",7000]]]`, `[[9223372036854775807,1,["a",-1]]]`,
	} {
		f.Add(seed)
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{redisAddr}, DisableCache: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(client.Close)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 || strings.Count(text, "[") > 50 {
			t.Skip()
		}
		reply, err := client.Do(context.Background(),
			client.B().Eval().Script("return cjson.decode(ARGV[1])").Numkeys(0).Arg(text).Build()).ToArray()
		if err != nil {
			t.Skip()
		}
		for _, r := range parseSlots(reply, "10.0.0.1:6379") {
			if r.from < 0 || r.to >= 1<<14 {
				t.Errorf("%s has the range %d to %d", text, r.from, r.to)
			}
			if host, port, err := net.SplitHostPort(r.addr); err != nil || host == "" || port == "" {
				t.Errorf("%s has the address %q", text, r.addr)
			}
		}
	})
}
