package redistest_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerKeepsDataThroughACrash(t *testing.T) {
	t.Parallel()
	s := redistest.Server(t, redistest.AppendOnly("always"))
	s.Must("SET", "k", "v")
	addr := s.Addr()
	s.Restart()
	if got := s.Must("GET", "k"); got != "v" || s.Addr() != addr {
		t.Fatalf("after a restart: %v at %s, was at %s", got, s.Addr(), addr)
	}
}

func TestServerPauses(t *testing.T) {
	t.Parallel()
	s := redistest.Server(t)
	s.Pause()
	answered := make(chan error, 1)
	go func() {
		_, err := s.Do("PING")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(100 * time.Millisecond): // an answer takes less
	}
	s.Resume()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestServerUsersAndMemory(t *testing.T) {
	t.Parallel()
	s := redistest.Server(t, redistest.Password("secret"), redistest.User("ann", "on >pw ~a:* +get"),
		redistest.MaxMemory("3mb", "noeviction"))
	if got := s.Must("ACL", "WHOAMI"); got != "redistest" {
		t.Errorf("the tests are %v", got)
	}
	var err error
	for i := range 1000 {
		if _, err = s.Do("SET", strconv.Itoa(i), string(make([]byte, 16<<10))); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("16 MB fitted into 3")
	}
}

func TestServerTLS(t *testing.T) {
	t.Parallel()
	s := redistest.Server(t, redistest.TLS())
	if got := s.Must("PING"); got != "PONG" {
		t.Errorf("got %v", got)
	}
	if _, err := os.Stat(s.CAFile()); err != nil || s.TLSConfig() == nil {
		t.Error(err)
	}
}

func TestClusterMovesSlots(t *testing.T) {
	t.Parallel()
	c := redistest.Cluster(t)
	slot := c.Slot("{a}:1")
	owner, _ := c.Owner(slot)
	owner.Must("SET", "{a}:1", "v")
	owner.Must("XADD", "{a}:2", "MAXLEN", "0", "*", "f", "v") // a stream that is empty
	began := time.Now()
	c.MigrateSlots(slot)
	t.Logf("moving a slot took %v", time.Since(began))
	next, _ := c.Owner(slot)
	if next == owner {
		t.Fatal("the slot did not move")
	}
	if got := next.Must("GET", "{a}:1"); got != "v" {
		t.Errorf("the key is %v", got)
	}
	if got := next.Must("EXISTS", "{a}:2"); got != int64(1) {
		t.Errorf("the empty stream is gone: %v", got)
	}
	c.AwaitOK()
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	w := redistest.Sentinel(t)
	first := w.Primary()
	first.Must("SET", "k", "v")
	first.AwaitReplicated(w.Replica())
	w.Failover()
	if w.Primary() == first {
		t.Fatal("the primary is the same")
	}
	w.AwaitOK()
	if got := w.Primary().Must("GET", "k"); got != "v" {
		t.Errorf("the key is %v", got)
	}
}

func TestSentinelLosesWhatTheReplicaLacks(t *testing.T) {
	t.Parallel()
	w := redistest.Sentinel(t)
	first := w.Primary()
	first.Must("SET", "k", "kept")
	first.AwaitReplicated(w.Replica())
	w.DetachReplica()
	first.Must("SET", "k", "lost")
	first.Kill()
	w.AwaitFailover(first)
	w.AttachReplica()
	first.Start()
	w.AwaitOK()
	for _, s := range []*redistest.Instance{w.Primary(), w.Replica()} {
		if got := s.Must("GET", "k"); got != "kept" {
			t.Errorf("the key is %v", got)
		}
	}
}

func TestWireLosesAnswers(t *testing.T) {
	t.Parallel()
	s := redistest.Server(t)
	w := redistest.NewWire(t, s.Addr())
	c, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	answer := make([]byte, 64)
	if _, err := c.Write([]byte("AUTH redistest redistest\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(answer); err != nil || !strings.HasPrefix(string(answer), "+OK") {
		t.Fatalf("%q, %v", answer, err)
	}
	muted := w.Mute()
	if _, err := c.Write([]byte("INCR n\r\n")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); muted.Lost() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // polls
	}
	if n := muted.Cut(); n != 1 || s.Must("GET", "n") != "1" {
		t.Errorf("%d connections lost an answer; the server has %v", n, s.Must("GET", "n"))
	}
	if n, err := c.Read(answer); err == nil {
		t.Errorf("an answer got through: %q", answer[:n])
	}
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c := redistest.ClusterWithReplicas(t)
	first, n := c.Owner(c.Slot("k"))
	first.Must("SET", "k", "kept")
	first.AwaitReplicated(c.Replicas()[n])
	c.DetachReplica(n)
	first.Must("SET", "k", "lost")
	c.KillPrimary(n)
	now, _ := c.Owner(c.Slot("k"))
	if now == first {
		t.Fatal("the primary is the same")
	}
	c.RestartReplica(n)
	if got := now.Must("GET", "k"); got != "kept" {
		t.Errorf("the key is %v", got)
	}
}
