package engine

// RateSubjects is how many subjects' buckets are held.
func (e *Engine) RateSubjects() int {
	e.rate.mu.Lock()
	defer e.rate.mu.Unlock()
	return len(e.rate.young) + len(e.rate.before)
}
