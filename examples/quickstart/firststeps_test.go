package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// firstSteps returns the shell commands of the README's first steps, those of
// make left out, with a host's address in place of the README's.
func firstSteps(t *testing.T, url string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n## Five minutes\n")
	text, _, ended := strings.Cut(text, "\n## ")
	if !found || !ended {
		t.Fatal("the README has no first steps")
	}
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)\n```sh\n(.*?)```\n").FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(block[1], "make ") {
			script.WriteString(block[1])
		}
	}
	const address = "http://127.0.0.1:8080"
	if strings.Count(script.String(), address) != 1 {
		t.Fatalf("the address is not said once: %s", script.String())
	}
	return strings.Replace(script.String(), address, url, 1)
}

// The README's commands work as they stand, pasted once or twice, in any shell.
func TestReadmeFirstSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes too long for -short")
	}
	d := serve(t)
	script := firstSteps(t, d.url)
	var wg sync.WaitGroup
	var mu sync.Mutex
	tasks := map[string]bool{}
	for _, shell := range []string{"sh", "sh", "bash"} {
		wg.Go(func() {
			path, err := exec.LookPath(shell)
			if err != nil && shell == "bash" {
				return // the other two are the test
			}
			cmd := exec.CommandContext(t.Context(), path, "-eu")
			cmd.Stdin = strings.NewReader(script)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", shell, err, out)
				return
			}
			task, err := readFirstSteps(string(out))
			if err != nil {
				t.Errorf("%s: %v in %s", shell, err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			tasks[task] = true
		})
	}
	wg.Wait()
	if len(tasks) < 2 {
		t.Errorf("pasted again, they give the same task: %v", tasks)
	}
}

// readFirstSteps holds what the first steps print to what they say, and returns
// the task's id.
func readFirstSteps(out string) (string, error) {
	said := regexp.MustCompile(`^task ([a-z0-9]{16,64}), last event (?:\d+-(\d+))?\n`).FindStringSubmatch(out)
	if said == nil {
		return "", fmt.Errorf("no task and last event")
	}
	// On a machine that is too busy for one event in two seconds it is empty.
	last, _ := strconv.Atoi(said[2])
	var ids []string
	var types []string
	for line := range strings.Lines(out) {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			ids = append(ids, strings.TrimSpace(id))
		} else if data, ok := strings.CutPrefix(line, "data: "); ok {
			var e struct{ Type string }
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return "", err
			}
			types = append(types, e.Type)
		}
	}
	// 102 events: TASK_STARTED, 100 messages, TASK_COMPLETED.
	if len(ids) == 0 || len(ids) != 102-last || !strings.HasSuffix(ids[0], fmt.Sprint("-", last+1)) || types[len(types)-1] != "TASK_COMPLETED" {
		return "", fmt.Errorf("after %d came %d events, from %v", last, len(ids), ids[:min(1, len(ids))])
	}
	// Three answers follow, one behind the other.
	_, rest, _ := strings.Cut(out, types[len(types)-1])
	_, rest, _ = strings.Cut(rest, "\n\n")
	answers := json.NewDecoder(strings.NewReader(rest[strings.IndexByte(rest, '{'):]))
	var page struct{ Events []any }
	var cancelled, snapshot struct{ TaskID, Status string }
	for _, answer := range []any{&page, &cancelled, &snapshot} {
		if err := answers.Decode(answer); err != nil {
			return "", err
		}
	}
	if len(page.Events) != min(len(ids), 100) || cancelled.Status != "ALREADY_TERMINAL" || snapshot.Status != "COMPLETED" || snapshot.TaskID != said[1] {
		return "", fmt.Errorf("%d events by poll, %v, %v", len(page.Events), cancelled, snapshot)
	}
	return said[1], nil
}
