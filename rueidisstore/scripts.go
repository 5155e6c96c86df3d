package rueidisstore

import (
	_ "embed"
	"fmt"

	"github.com/redis/rueidis"
)

// The scripts are plain ones: rueidis does not send them again when an answer
// is lost, since they may have run. A repeat is the caller's, with its token.
//
// None of them may run on the tail's client: a script that reads registers all
// its keys for tracking on the connection that it came by.
var (
	//go:embed create.lua
	createSource string
	//go:embed append.lua
	appendSource string
	//go:embed append_quick.lua
	appendQuickSource string
	//go:embed cancel.lua
	cancelSource string
	//go:embed erase.lua
	eraseSource string
	//go:embed renew.lua
	renewSource string
	//go:embed list.lua
	listSource string
	//go:embed due.lua
	dueSource string
	//go:embed lease.lua
	leaseSource string

	createScript = newMakingScript(createSource)
	appendScript = newMakingScript(appendSource)
	cancelScript = rueidis.NewLuaScript(cancelSource)
	eraseScript  = rueidis.NewLuaScript(eraseSource)
	renewScript  = rueidis.NewLuaScript(renewSource)
	listScript   = rueidis.NewLuaScript(listSource)
	dueScript    = rueidis.NewLuaScript(dueSource)
	leaseScript  = rueidis.NewLuaScript(leaseSource)
)

// newQuickScript has its bounds in its text: an argument takes longer to hand
// over than it looks.
func newQuickScript(keep int, most int64) *rueidis.Lua {
	return rueidis.NewLuaScript(fmt.Sprintf("local keep, most = %d, %d\n", keep, most) + appendQuickSource)
}
