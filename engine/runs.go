package engine

import (
	"slices"
	"sync"
)

// runs are the open runs of this process, by task.
type runs struct {
	mu     sync.Mutex
	byTask map[string][]*Run
}

func (a *runs) add(r *Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byTask == nil {
		a.byTask = map[string][]*Run{}
	}
	a.byTask[r.task.ID] = append(slices.Clip(a.byTask[r.task.ID]), r)
}

// remove may be called again.
func (a *runs) remove(r *Run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(a.byTask[r.task.ID]), func(o *Run) bool { return o == r })
	if len(rest) == 0 {
		delete(a.byTask, r.task.ID)
		return
	}
	a.byTask[r.task.ID] = rest
}

// of gives a task's runs; the slice must not be written to.
func (a *runs) of(taskID string) []*Run {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byTask[taskID]
}

// runOf returns a run of the task that can go on with it, nil if there is none
// in this process.
func (m *Emitter) runOf(taskID string) *Run {
	for _, r := range m.runs.of(taskID) {
		if r.alive() {
			return r
		}
	}
	return nil
}

// waited reports whether a run of this process will take the answer to a
// suspension by itself.
func (m *Emitter) waited(taskID, suspendID string) bool {
	return slices.ContainsFunc(m.runs.of(taskID), func(r *Run) bool { return r.alive() && r.waitsFor(suspendID) })
}

// alive reports whether r may still write to the log of its task.
func (r *Run) alive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.over && !r.closed && !r.superseded
}
