package rueidisstore

import (
	"context"
	_ "embed"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// While a slot moves from one node of a Cluster to another, keys that do not
// exist are the new node's. It takes them from a script that declares one key;
// of several declared keys that are not all there Redis says TRYAGAIN until the
// move is over. A script may reach keys of its slot that it has not declared,
// which is not how it should be, and is not done unless it was refused.

//go:embed openslot.lua
var openSlotSource string

// makingScript is a script that makes keys.
type makingScript struct{ usual, openSlot *rueidis.Lua }

func newMakingScript(source string) makingScript {
	return makingScript{rueidis.NewLuaScript(source), rueidis.NewLuaScript(openSlotSource + source)}
}

// exec runs it. In an open slot the first keys, as many as anchors says, decide
// where it runs: those that exist already, or a single one.
func (m makingScript) exec(ctx context.Context, c rueidis.Client, anchors int, keys, args []string) rueidis.RedisResult {
	answer := m.usual.Exec(ctx, c, keys, args)
	if anchors == len(keys) || !triesAgain(answer) {
		return answer
	}
	told := make([]string, 0, 1+len(keys)-anchors+len(args))
	told = append(told, strconv.Itoa(len(keys)-anchors))
	told = append(append(told, keys[anchors:]...), args...)
	if late := m.openSlot.Exec(ctx, c, keys[:anchors], told); late.Error() == nil {
		return late
	}
	return answer
}

// triesAgain reports whether a script was refused for the keys that it declared.
func triesAgain(answer rueidis.RedisResult) bool {
	return strings.HasPrefix(asAnswer(answer.Error()), "TRYAGAIN")
}
