//go:build unix

package fiberbridge_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp/reuseport"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// processEnv makes this test program a host on that address; with "prefork" it
// is one that asks for Fiber's Prefork.
const processEnv = "FIBERBRIDGE_TEST_PROCESS"

func init() {
	addr := os.Getenv(processEnv)
	if addr == "" {
		return
	}
	if err := runProcess(addr); err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runProcess(addr string) error {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		return err
	}
	eng, err := engine.New(engine.Config{Store: store})
	if err != nil {
		return err
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{Engine: eng, Auth: authFromToken, Drain: fiberbridge.DrainConfig{Timeout: enough}})
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, Prefork: addr == "prefork"})
	if err := bridge.Mount(app); err != nil {
		return err
	}
	app.Get("/pid", func(c *fiber.Ctx) error { return c.SendString(fmt.Sprint(os.Getpid())) })
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ln, err := reuseport.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(os.Stdout, "listening")
	return bridge.Serve(ctx, app, ln)
}

// startProcess starts a host in its own process group.
func startProcess(t *testing.T, addr string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), processEnv+"="+addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd, bufio.NewReader(out)
}

// With Prefork a host says what to do instead, and leaves no process behind.
func TestPreforkProcess(t *testing.T) {
	cmd, out := startProcess(t, "prefork")
	said, err := io.ReadAll(out) // to the end of all that hold the pipe
	if err != nil || !strings.Contains(string(said), "Prefork is not supported") || !strings.Contains(string(said), "reuseport.Listen") {
		t.Errorf("%v: %s", err, said)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended as if nothing were wrong")
	}
}

// Several processes on one port: each of them serves, and each drains for itself
// when all are told to end at once.
func TestProcessesOnOnePort(t *testing.T) {
	held, err := reuseport.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := held.Addr().String()
	var all []*exec.Cmd
	for range 2 {
		cmd, out := startProcess(t, addr)
		if line, err := out.ReadString('\n'); line != "listening\n" {
			t.Fatal(line, err)
		}
		all = append(all, cmd)
	}
	if err := held.Close(); err != nil { // the kernel would give it connections
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: enough}
	seen := map[string]bool{}
	for end := time.Now().Add(enough); len(seen) < 2 && time.Now().Before(end); {
		resp, err := client.Get("http://" + addr + "/pid")
		if err != nil {
			t.Fatal(err)
		}
		pid, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		seen[string(pid)] = true
	}
	if len(seen) < 2 {
		t.Errorf("only %v serve", seen)
	}
	for _, cmd := range all {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("a process ended with %v", err)
		}
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
}
