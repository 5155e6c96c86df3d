package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startHAProxy puts HAProxy in front of a host, on a free port, and returns its
// URL. site is one of this folder's files, of which the port and the host's
// address are exchanged, and more is put into its backend.
func startHAProxy(t *testing.T, site, host, more string) string {
	t.Helper()
	path := tool(t, "haproxy", "haproxy")
	text, err := os.ReadFile(site)
	if err != nil {
		t.Fatal(err)
	}
	for tries := 1; ; tries++ {
		address := freeAddress(t)
		err := runHAProxy(t, path, address, string(text), strings.TrimPrefix(host, "http://"), more)
		if err == nil {
			return "http://" + address
		}
		if tries == 3 { // somebody else may have taken the port meanwhile
			t.Fatal(err)
		}
	}
}

func runHAProxy(t *testing.T, path, address, site, host, more string) error {
	t.Helper()
	for _, replace := range [][2]string{{"127.0.0.1:8080", host}, {"bind :80", "bind " + address}, {"backend taskbridge\n", "backend taskbridge\n" + more}} {
		if !strings.Contains(site, replace[0]) {
			t.Fatalf("the site does not say %q", replace[0])
		}
		site = strings.ReplaceAll(site, replace[0], replace[1])
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(site), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-db", "-f", file)
	var output lockedBuffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-exited:
			return fmt.Errorf("haproxy does not start: %s", output.String())
		default:
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("haproxy does not listen: %s", output.String())
		}
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(patience):
			t.Error("haproxy does not stop")
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("haproxy said:\n%s", output.String())
		}
	})
	return nil
}
