package main

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A signal is heard while the host waits for a Redis that answers nothing.
func TestSignalDuringTheStart(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	signals := make(chan os.Signal, 1)
	var once sync.Once
	go func() { // ends with the listener
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			once.Do(func() { signals <- syscall.SIGTERM })
		}
	}()
	code := make(chan int, 1)
	go func() {
		code <- run([]string{"-addr", "127.0.0.1:0", "-redis", silent.Addr().String()}, environment(), io.Discard, io.Discard, signals)
	}()
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("the exit code is %d", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the host waits on")
	}
}
