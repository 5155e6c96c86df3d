package bench

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// followerEnv makes this program's child a follower: it has a process of its
// own, so that its CPU time is only what following costs.
const followerEnv = "TASKBRIDGE_BENCH_FOLLOWER"

// job is what a follower is told first; afterwards it is given orders.
type job struct {
	Way    string     `json:"way"`
	Addr   string     `json:"addr"`
	Prefix string     `json:"prefix"`
	Logs   []followed `json:"logs"`
}

// The orders; each is answered by a report.
const (
	orderBegin = "begin" // measure from now on
	orderEnd   = "end"   // measure no more
	orderCount = "count" // how many events did you get?
)

// report is what a follower answers to its job and to every order.
type report struct {
	Err      string        `json:"err,omitempty"`
	Received int64         `json:"received"`
	Bad      int64         `json:"bad"`
	Samples  int           `json:"samples"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Max      time.Duration `json:"max"`
	CPU      time.Duration `json:"cpu"`
	Took     time.Duration `json:"took"`
}

// serveFollower is the child's side. It ends with its input.
func serveFollower(in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var j job
	if err := orders.Decode(&j); err != nil {
		return err
	}
	l := newLatencies()
	stop, err := follow(j.Way, j.Addr, j.Prefix, j.Logs, l)
	if err != nil {
		return answers.Encode(report{Err: err.Error()})
	}
	defer stop()
	if err := answers.Encode(report{}); err != nil {
		return err
	}
	var (
		began time.Time
		cpu   time.Duration
	)
	for {
		var order string
		if err := orders.Decode(&order); err != nil {
			return nil // the parent has gone, or wants us to go
		}
		r := report{Received: l.received.Load(), Bad: l.bad.Load()}
		switch order {
		case orderBegin:
			began, cpu = time.Now(), cpuTime()
			l.measuring.Store(true)
		case orderEnd:
			l.measuring.Store(false)
			r.Took, r.CPU = time.Since(began), cpuTime()-cpu
			r.Samples, r.P50, r.P99, r.Max = l.quantiles()
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
}

// follower is the parent's side.
type follower struct {
	tb      testing.TB
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

// startFollower returns when all logs are followed.
func startFollower(tb testing.TB, j job) *follower {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), followerEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	f := &follower{tb: tb, cmd: cmd, in: in, orders: json.NewEncoder(in), answers: json.NewDecoder(out)}
	tb.Cleanup(f.stop)
	f.tell(j)
	return f
}

// tell gives an order and returns the answer.
func (f *follower) tell(order any) report {
	f.tb.Helper()
	var r report
	if err := f.orders.Encode(order); err != nil {
		f.tb.Fatal(err)
	}
	if err := f.answers.Decode(&r); err != nil {
		f.tb.Fatal(err)
	}
	if r.Err != "" {
		f.tb.Fatal("follower: ", r.Err)
	}
	return r
}

func (f *follower) stop() {
	if f.cmd == nil {
		return
	}
	f.in.Close()
	if err := f.cmd.Wait(); err != nil {
		f.tb.Error("follower: ", err)
	}
	f.cmd = nil
}
