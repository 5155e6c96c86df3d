package bench

import (
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// yardstick is a bare write(2) loop: what it costs to give so many sockets so
// many bytes if there is nothing else to do.
type yardstick struct {
	sockets []int
	bytes   []byte
	crowd   *crowd
	events  int // in bytes

	deliveries int
	took, cpu  time.Duration
}

// run writes to every socket, and waits until all of it was read, so often.
func (y *yardstick) run(tb testing.TB, rounds int) {
	start, cpu := time.Now(), cpuTime()
	for range rounds {
		y.crowd.expect(y.events * len(y.sockets))
		for _, fd := range y.sockets {
			if err := writeAll(fd, y.bytes); err != nil {
				tb.Fatal(err)
			}
		}
		y.crowd.wait()
	}
	y.took += time.Since(start)
	y.cpu += cpuTime() - cpu
	y.deliveries += rounds * y.events * len(y.sockets)
}

// writeAll makes the bare system call: Go's scheduler is not told of it, as it
// would not be in C.
func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, _, err := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch err {
		case 0:
			p = p[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != nil && err != unix.EINTR {
				return err
			}
		default:
			return err
		}
	}
	return nil
}
