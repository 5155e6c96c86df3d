package rueidisstore

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func TestClassify(t *testing.T) {
	b := open(t, testConfig(t))
	// Real answers, made by a script that fails with them.
	answer := func(text string) error {
		return b.do("EVAL", "return redis.error_reply(ARGV[1])", "0", text).Error()
	}
	for _, text := range []string{
		"LOADING Redis is loading the dataset in memory", "CLUSTERDOWN The cluster is down", "TRYAGAIN Multiple keys",
		"MASTERDOWN Link with MASTER is down", "READONLY You can't write against a read only replica.",
		"NOREPLICAS Not enough good replicas to write.", "OOM command not allowed when used memory > 'maxmemory'.",
		"MISCONF Redis is configured to save RDB snapshots", "ERR max number of clients reached", "BUSY Redis is busy running a script",
		// An operator took a right away, or changed a password.
		"WRONGPASS invalid username-password pair", "NOAUTH Authentication required.", "NOPERM this user has no permissions",
		"ERR The user executing the script can't run this command or subcommand script: f, on @user_script:20.",
		"ERR ACL failure in script: User app has no permissions to run the 'set' command",
		"ERR Error running script (call to f_0): @user_script:5: -OOM command not allowed when used memory > 'maxmemory'.",
	} {
		err := classify("append", answer(text))
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.CodeStoreUnavailable || e.RetryAfter <= 0 || !strings.Contains(err.Error(), text[4:]) ||
			strings.Contains(e.Message, text[4:]) {
			t.Errorf("%s became %v", text, err)
		}
	}
	for _, text := range []string{
		"ERR unknown command 'XADD'", "WRONGTYPE Operation against a key", "ERR something else",
	} {
		if err := classify("append", answer(text)); engine.CodeOf(err) != engine.CodeInternal || !strings.Contains(err.Error(), text[4:]) {
			t.Errorf("%s became %v", text, err)
		}
	}
	for _, err := range []error{io.EOF, context.DeadlineExceeded, context.Canceled, rueidis.ErrClosing, errors.New("dial tcp: refused")} {
		got := classify("append", err)
		if engine.CodeOf(got) != engine.CodeStoreUnavailable || !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if classify("append", nil) != nil {
		t.Error("no error became one")
	}
	known := engine.NewError(engine.CodeTaskNotFound, "x")
	if got := classify("append", known); !errors.Is(got, known) || got.Error() != known.Error() {
		t.Errorf("an error of ours became %v", got)
	}
}
