//go:build linux

package main

import (
	"context"
	"fmt"
)

// many is N tasks with a subscriber each.
func many(ctx context.Context, s *stage) error {
	servers, err := s.servers(ctx)
	if err != nil {
		return err
	}
	l := load{tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: s.duration}
	for i := range s.rounds {
		l.name = fmt.Sprintf("many %d", i+1)
		if _, err := s.play(ctx, l, servers...); err != nil {
			return err
		}
	}
	return nil
}
