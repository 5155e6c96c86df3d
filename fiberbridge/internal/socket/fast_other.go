//go:build !linux

package socket

import (
	"errors"
	"net"
	"time"
)

// There is no fast path: no loop is ever started, so every socket is portable.

type (
	loop struct{}
	fast struct{}
)

func (fast) group() *Group { return nil }

func (g *Group) startLoops() error { return nil }

func (l *loop) adopt(*Socket, *net.TCPConn, []byte) error { return errors.ErrUnsupported }
func (l *loop) close()                                    {}

func (s *Socket) fastWrite([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (s *Socket) fastFinish()                   {}
func (s *Socket) fastClose()                    {}
func (s *Socket) fastResume()                   {}
func (s *Socket) fastUserTimeout(time.Duration) {}

func (s *Socket) fastBacklog() (n int, ok bool) { return 0, false }

func (o Options) tune(*net.TCPConn) {}

func tcpUserTimeout(*net.TCPConn, time.Duration) bool { return false }
