package rueidisstore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strings"

	"github.com/redis/rueidis"
)

// pipelined is a script for many calls in one round trip. rueidis' own ExecMulti
// loads the script into every node each time; this one sends it only where it
// is not known.
type pipelined struct{ source, sha string }

func newPipelined(source string) pipelined {
	sum := sha1.Sum([]byte(source))
	return pipelined{source, hex.EncodeToString(sum[:])}
}

// call is one call of a script.
type call struct{ keys, args []string }

// pipeline gives an answer for each call, in order.
func (s *Store) pipeline(ctx context.Context, p pipelined, calls []call) []rueidis.RedisResult {
	if len(calls) == 0 {
		return nil
	}
	ctx, done := s.bound(ctx)
	defer done()
	client := s.client
	cmds := make(rueidis.Commands, len(calls))
	for i, c := range calls {
		cmds[i] = client.B().Evalsha().Sha1(p.sha).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()
	}
	answers := client.DoMulti(ctx, cmds...)
	var unknown []int
	cmds = nil
	for i, c := range calls {
		if strings.HasPrefix(asAnswer(answers[i].Error()), "NOSCRIPT") {
			unknown = append(unknown, i)
			cmds = append(cmds, client.B().Eval().Script(p.source).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build())
		}
	}
	if len(cmds) == 0 {
		return answers
	}
	for j, answer := range client.DoMulti(ctx, cmds...) {
		answers[unknown[j]] = answer
	}
	return answers
}
