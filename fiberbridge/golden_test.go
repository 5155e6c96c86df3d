package fiberbridge

import (
	"encoding/json"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/protocol"
)

// heartbeatTime is what a heartbeat or a notice tells of the moment it was made.
var heartbeatTime = regexp.MustCompile(`"eventId":"hb-[0-9]{16}","createdAt":"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z"`)

// TestGoldenStreamIsTheBridges holds every published piece of a stream against
// what the bridge writes, byte for byte but for the time of a heartbeat.
func TestGoldenStreamIsTheBridges(t *testing.T) {
	const task = "k3v9q0z7m2x8c4b1"
	now := time.Date(2026, 1, 1, 0, 0, 15, 0, time.UTC)
	event, err := fs.ReadFile(protocol.Golden(), "event.progress.json")
	if err != nil {
		t.Fatal(err)
	}
	f := sseFraming{comment: true, data: true}
	written := map[string][]byte{
		"opening.sse":           f.appendOpening(nil, 2*time.Second),
		"heartbeat.sse":         sseFraming{data: true}.AppendHeartbeat(nil, task, now),
		"heartbeat-comment.sse": sseFraming{comment: true}.AppendHeartbeat(nil, task, now),
		"event.sse": f.AppendEntry(nil, task, fanout.Entry{
			ID: fanout.ID{Millis: 1767225600250, Ordinal: 2}, Body: event[:len(event)-1], // the file's newline
		}),
		"gap.sse": f.AppendGap(nil, task, fanout.Gap{
			Reason: fanout.GapTrimmed,
			After:  fanout.ID{Millis: 1767225600001, Ordinal: 1}, First: fanout.ID{Millis: 1767225600250, Ordinal: 3},
		}),
		"closing.sse": f.appendClosing(nil, task, closingDraining, 2350*time.Millisecond),
	}
	files, err := fs.Glob(protocol.Golden(), "*.sse")
	if err != nil || len(files) != len(written) {
		t.Errorf("%d golden pieces of streams, %d are compared: %v", len(files), len(written), err)
	}
	timeless := func(b []byte) string { return heartbeatTime.ReplaceAllString(string(b), "TIME") }
	for _, name := range files {
		want, err := fs.ReadFile(protocol.Golden(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := written[name]; timeless(got) != timeless(want) {
			t.Errorf("%s:\nthe bridge writes %q\nthe golden file is %q", name, got, want)
		}
	}
}

// TestCodesOfTheSchemas compares the codes that the bridge knows with those
// that the schemas allow.
func TestCodesOfTheSchemas(t *testing.T) {
	for _, name := range []string{"error", "ws-rejected"} {
		text, err := protocol.Schema(name)
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Properties struct {
				Code struct{ Enum []engine.Code }
			}
		}
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		allowed := map[engine.Code]bool{}
		for _, code := range schema.Properties.Code.Enum {
			allowed[code] = true
			if _, ok := statuses[code]; !ok {
				t.Errorf("%s allows %s, which no code of the engine is", name, code)
			}
		}
		for code := range statuses {
			if !allowed[code] {
				t.Errorf("%s does not allow %s", name, code)
			}
		}
	}
}

// TestPassingCodesOfTheDocs compares the table of docs/clients.md, and the set
// that its WebSocket loop repeats at, with the bridge's.
func TestPassingCodesOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[engine.Code]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| ([0-9]{3}) \\| (yes|no) \\|").FindAllStringSubmatch(string(page), -1) {
		code := engine.Code(m[1])
		documented[code] = true
		status, known := statuses[code]
		if !known {
			t.Errorf("docs/clients.md names %s, which is no code", code)
			continue
		}
		if m[2] != strconv.Itoa(status) || (m[3] == "yes") != passing(status) {
			t.Errorf("docs/clients.md says of %s: status %s, passes: %s; it is %d and %t", code, m[2], m[3], status, passing(status))
		}
	}
	set := regexp.MustCompile(`const PASSING = new Set\(\[(.*)\]\)`).FindStringSubmatch(string(page))
	if set == nil {
		t.Fatal("docs/clients.md has no set of passing codes")
	}
	for code, status := range statuses {
		if !documented[code] {
			t.Errorf("docs/clients.md does not name %s", code)
		}
		if passing(status) != strings.Contains(set[1], strconv.Quote(string(code))) {
			t.Errorf("the loop of docs/clients.md is wrong about %s", code)
		}
	}
}
