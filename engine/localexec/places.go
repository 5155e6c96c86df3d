package localexec

import "container/list"

// places decides which tasks the executor accepts and which of them get a worker. Each
// subject has bounds of its own below those of the executor. Free workers go to the
// subjects in turn, so that a subject with many tasks delays the next task of another
// subject by at most one of its own. Executor.mu guards it.
type places struct {
	workers, queue               int // of all subjects
	subjectWorkers, subjectQueue int // of each
	held                         int // slots, waiting and running tasks
	running                      int
	waiting                      int
	subjects                     map[string]*subject
	// ready holds the subjects that have a waiting task and may use another
	// worker, in the order in which they get one. It is empty while a worker is
	// free.
	ready list.List // of *subject
}

// subject is what one subject holds. It is forgotten when it holds nothing.
type subject struct {
	name    string
	held    int
	running int
	waiting list.List // of *job
	turn    *list.Element
}

func newPlaces(cfg Config) places {
	return places{
		workers: cfg.Workers, queue: cfg.Queue,
		subjectWorkers: cfg.WorkersPerSubject, subjectQueue: cfg.QueuePerSubject,
		subjects: map[string]*subject{},
	}
}

// refusal is why there is no place for a task.
type refusal int

const (
	accepted refusal = iota
	allTaken
	subjectsTaken
)

// take holds a place for one task of the named subject.
func (p *places) take(name string) refusal {
	if p.full() {
		return allTaken
	}
	s := p.subjects[name]
	if s == nil {
		s = &subject{name: name}
	}
	if s.held >= p.subjectWorkers+p.subjectQueue {
		return subjectsTaken
	}
	p.held++
	s.held++
	p.subjects[name] = s
	return accepted
}

func (p *places) full() bool { return p.held >= p.workers+p.queue }

// give gives back a place of take. The place's task has no worker and does not wait for
// one.
func (p *places) give(name string) {
	p.held--
	s := p.subjects[name]
	if s.held--; s.held == 0 {
		delete(p.subjects, name)
	}
}

// submit gives a worker to a job that has a place, or queues it.
func (p *places) submit(j *job) {
	s := p.subjects[j.owner]
	if p.running < p.workers && s.running < p.subjectWorkers {
		p.start(s, j)
		return
	}
	j.waiting = s.waiting.PushBack(j)
	p.waiting++
	p.enlist(s)
}

// leave removes a job that ended, running or waiting. It frees its place, and gives its
// worker to the next job.
func (p *places) leave(j *job) {
	s := p.subjects[j.owner]
	if j.waiting != nil {
		p.unqueue(s, j)
		if s.turn != nil && s.waiting.Len() == 0 {
			p.delist(s)
		}
	} else {
		p.running--
		s.running--
		p.enlist(s)
	}
	p.give(s.name)
	for p.running < p.workers && p.ready.Len() > 0 {
		next := p.ready.Front().Value.(*subject)
		p.delist(next)
		heir := next.waiting.Front().Value.(*job)
		p.unqueue(next, heir)
		p.start(next, heir)
		p.enlist(next)
	}
}

func (p *places) start(s *subject, j *job) {
	p.running++
	s.running++
	close(j.turn)
}

func (p *places) unqueue(s *subject, j *job) {
	s.waiting.Remove(j.waiting)
	j.waiting = nil
	p.waiting--
}

// enlist puts a subject at the end of ready if it belongs there and is not there.
func (p *places) enlist(s *subject) {
	if s.turn == nil && s.waiting.Len() > 0 && s.running < p.subjectWorkers {
		s.turn = p.ready.PushBack(s)
	}
}

func (p *places) delist(s *subject) {
	p.ready.Remove(s.turn)
	s.turn = nil
}
