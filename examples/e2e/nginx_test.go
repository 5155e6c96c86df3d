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

// startNginx puts nginx in front of a host, on a free port, and returns its
// URL. site is one of this folder's files; its port and the host's address are
// exchanged, nothing else.
func startNginx(t *testing.T, site, host string) string {
	t.Helper()
	text, err := os.ReadFile(site)
	if err != nil {
		t.Fatal(err)
	}
	return startNginxWith(t, string(text), host)
}

func startNginxWith(t *testing.T, site, host string) string {
	t.Helper()
	path := tool(t, "nginx", "nginx-light")
	for tries := 1; ; tries++ {
		address := freeAddress(t)
		err := runNginx(t, path, address, site, strings.TrimPrefix(host, "http://"))
		if err == nil {
			return "http://" + address
		}
		if tries == 3 { // somebody else may have taken the port meanwhile
			t.Fatal(err)
		}
	}
}

func runNginx(t *testing.T, path, address, site, host string) error {
	t.Helper()
	for _, replace := range [][2]string{{"127.0.0.1:8080", host}, {"listen 80;", "listen " + address + ";"}} {
		if !strings.Contains(site, replace[0]) {
			t.Fatalf("the site does not say %q", replace[0])
		}
		site = strings.ReplaceAll(site, replace[0], replace[1])
	}
	dir := t.TempDir()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the workers write into dir
	}
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config := fmt.Sprintf("%s\nworker_processes 1;\npid %s;\nerror_log %s info;\nevents { worker_connections 512; }\nhttp {\naccess_log off;\n%s\n%s\n}\n",
		user, filepath.Join(dir, "nginx.pid"), filepath.Join(dir, "error.log"), temporary, site)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(path, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file, "-g", "daemon off;")
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
			return fmt.Errorf("nginx does not start: %s", output.String())
		default:
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("nginx does not listen: %s", output.String())
		}
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // the master ends its workers
		select {
		case <-exited:
		case <-time.After(patience):
			t.Error("nginx does not stop")
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx said:\n%s", text)
		}
	})
	return nil
}

// freeAddress returns a port of the loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
