package socket

// Pause leaves what the peer sends where it is, in the kernel's buffers, until
// Resume: when those are full, TCP holds the peer back. What the Group has in
// hand already may still come. A Handler may call it within Readable.
//
// On the fast path the end of the connection is told even so, and the bytes
// before it are not; a FIN only if the buffers hold all that was sent before it.
// On the portable path it is found after Resume, or by a write. Closing in either
// way ends the pause.
func (s *Socket) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&(closed|draining|ended) == 0 {
		s.state |= paused
	}
}

// Resume ends a pause. Without one it does nothing.
func (s *Socket) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unpause()
}

// unpause is Resume with mu held.
func (s *Socket) unpause() {
	if s.state&paused == 0 {
		return
	}
	s.state &^= paused
	if s.port != nil {
		s.port.unpause()
		return
	}
	if s.state&(unread|queued) == unread {
		s.state |= queued
		s.fastResume()
	}
	s.state &^= unread
}

// awaitResume is called by the goroutine that reads, and returns when s is not
// paused.
func (p *portable) awaitResume(s *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.state&paused != 0 {
		if p.resume == nil {
			p.resume = make(chan struct{})
		}
		resume := p.resume
		s.mu.Unlock()
		<-resume
		s.mu.Lock()
	}
}

// unpause is called with the Socket's lock held.
func (p *portable) unpause() {
	if p.resume != nil {
		close(p.resume)
		p.resume = nil
	}
}
