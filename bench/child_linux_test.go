package bench

import (
	"fmt"
	"os"
)

// serveChild is this program's children's main. It reports false in the parent.
func serveChild() bool {
	if os.Getenv(readerEnv) == "" {
		return false
	}
	if err := serveReaders(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "subscribers:", err)
		os.Exit(1)
	}
	return true
}
