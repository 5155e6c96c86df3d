package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of these benchmarks.
const patience = 20 * time.Second

// crowd is the parent's side of the subscribers.
type crowd struct {
	tb    testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	board *board
	done  *os.File
	// size is how many there are.
	size int
}

// startCrowd returns when every subscriber has its answer's head.
func startCrowd(tb testing.TB, j crowdJob) *crowd {
	tb.Helper()
	c := &crowd{tb: tb, size: j.Count}
	memory, err := unix.MemfdCreate("board", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	shared := os.NewFile(uintptr(memory), "board")
	defer shared.Close()
	if err := shared.Truncate(4096); err != nil {
		tb.Fatal(err)
	}
	if c.board, err = mapBoard(memory); err != nil {
		tb.Fatal(err)
	}
	var end *os.File
	if c.done, end, err = os.Pipe(); err != nil {
		tb.Fatal(err)
	}
	defer end.Close()

	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c.cmd = exec.Command(self)
	c.cmd.Env = append(os.Environ(), readerEnv+"=1", "GOMAXPROCS=1")
	c.cmd.Stderr = os.Stderr
	c.cmd.ExtraFiles = []*os.File{shared, end} // boardFD, doneFD
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.stop)
	if err := json.NewEncoder(c.in).Encode(j); err != nil {
		tb.Fatal(err)
	}
	var r report
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		tb.Fatal("subscribers: ", err)
	}
	if r.Err != "" {
		tb.Fatal("subscribers: ", r.Err)
	}
	return c
}

// expect says that n more deliveries are on their way.
func (c *crowd) expect(n int) { c.board.target.Add(int64(n)) }

// wait returns when everything expected was read.
func (c *crowd) wait() {
	if err := c.done.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.tb.Fatal(err)
	}
	var one [1]byte
	if _, err := c.done.Read(one[:]); err != nil {
		c.tb.Fatalf("%d of %d deliveries were read, %d of %d subscribers were cut: %v",
			c.board.received.Load(), c.board.target.Load(), c.board.closed.Load(), c.size, err)
	}
}

// settle is for the end: what was read is exactly what was sent, and nobody was
// cut.
func (c *crowd) settle() error {
	got, want, cut := c.board.received.Load(), c.board.target.Load(), c.board.closed.Load()
	if got != want || cut != 0 {
		return fmt.Errorf("%d deliveries were read, want %d; %d of %d subscribers were cut", got, want, cut, c.size)
	}
	return nil
}

func (c *crowd) stop() {
	c.in.Close()
	if err := c.cmd.Wait(); err != nil {
		c.tb.Error("subscribers: ", err)
	}
	c.done.Close()
}
