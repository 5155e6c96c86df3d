package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The page proves that nothing is lost or doubled. A proof that cannot fail
// is none: here its log is fed what a server should never send.
func TestThePagesLogNoticesWhatIsWrong(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	for _, c := range []struct {
		name string
		feed string // ids; "g" and a first id is a gap, "!" a terminal event
		want []string
		warn string
	}{
		{name: "all in order", feed: "1-1 1-2 2-3 3-4!", want: []string{"1-1", "1-2", "2-3", "3-4"}},
		{name: "repeats", feed: "1-1 1-2 1-1 1-2 1-3", want: []string{"1-1", "1-2", "1-3"}},
		{name: "a hole", feed: "1-1 1-3", want: []string{"1-1", "1-3"}, warn: "a hole: event 2"},
		{name: "the beginning is missing", feed: "1-2", want: []string{"1-2"}, warn: "a hole: event 1"},
		{name: "an announced gap", feed: "1-1 g1-7 1-7 1-8", want: []string{"1-1", "1-7", "1-8"}},
		{name: "a gap, and more than announced", feed: "1-1 g1-7 1-8", want: []string{"1-1", "1-8"}, warn: "a hole: event 7"},
		{name: "a gap without an end", feed: "1-1 g 1-9 1-10", want: []string{"1-1", "1-9", "1-10"}},
		{name: "a log that went back", feed: "1-1 1-2 1-3 g5-2 5-2 5-3", want: []string{"1-1", "1-2", "1-3", "5-2", "5-3"}},
		{name: "out of order", feed: "1-1 1-2 1-3 2-2", want: []string{"1-1", "1-2", "1-3", "2-2"}, warn: "out of order"},
		{name: "after the end", feed: "1-1 1-2! 1-3", want: []string{"1-1", "1-2", "1-3"}, warn: "after the task's end"},
		{name: "no ordinal", feed: "1-1 x", want: []string{"1-1", "x"}, warn: "no ordinal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got struct {
				IDs, Warnings         []string
				Events, Repeats, Gaps int
			}
			p.eval(fmt.Sprintf(`(async () => {
			  const { TaskLog } = await import("/tasklog.js");
			  const log = new TaskLog(), ids = [];
			  for (const item of %q.split(" ")) {
			    if (item.startsWith("g")) { log.gap({ reason: "trimmed", firstEventId: item.slice(1) || null }); continue; }
			    const eventId = item.replace("!", "");
			    if (log.add({ type: item.endsWith("!") ? "TASK_COMPLETED" : "TASK_MESSAGE", eventId })) ids.push(eventId);
			  }
			  return { IDs: ids, Warnings: log.warnings, Events: log.events, Repeats: log.repeats, Gaps: log.gaps };
			})()`, c.feed), &got)
			items := strings.Fields(c.feed)
			gaps := strings.Count(c.feed, "g")
			if !slices.Equal(got.IDs, c.want) || got.Events != len(c.want) || got.Gaps != gaps || got.Repeats != len(items)-gaps-len(c.want) {
				t.Errorf("%+v", got)
			}
			if c.warn == "" && len(got.Warnings) > 0 || c.warn != "" && (len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], c.warn)) {
				t.Errorf("warnings: %v", got.Warnings)
			}
		})
	}
}
