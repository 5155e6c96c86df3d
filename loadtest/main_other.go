//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	_, _ = fmt.Fprintln(os.Stderr, "loadtest: it needs Linux, for epoll and /proc")
	os.Exit(2)
}
