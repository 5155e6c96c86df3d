package fiberbridge

import (
	"fmt"
	"io"
	"math/rand/v2"

	"strings"
	"sync"
	"testing"
	"time"
)

// What a client sends right behind its handshake, in whatever packets, and more
// than fasthttp's buffer takes, arrives whole and in order, while connections
// come and go on the same descriptors.
func TestStreamNothingIsLostBehindTheHandshake(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		handshake := "GET " + wsPath + "?access_token=alice HTTP/1.1\r\nHost: " + h.addr + "\r\n" + strings.Join(wsUpgrade, "\r\n") + "\r\n\r\n"
		// A byte that is lost or doubled leaves the frames out of step; then the
		// last one, with a close code that nothing else has, is not found.
		var frames strings.Builder
		for range 60 {
			frames.Write(maskedFrame(0x8a, strings.Repeat("p", 100))) // pongs, which nobody asked for
		}
		frames.Write(maskedFrame(0x88, "\x0f\xa7bye")) // 4007
		wire := handshake + frames.String()
		rounds := 20
		if testing.Short() {
			rounds = 10
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			rng := rand.New(rand.NewPCG(uint64(worker), 1))
			wg.Go(func() {
				for range rounds {
					if err := sendInPieces(h, wire, rng); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		h.empty(t)
	})
}

// sendInPieces sends wire cut at random places and reads to the end.
func sendInPieces(h *streamHost, wire string, rng *rand.Rand) error {
	conn, err := h.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	pieces := 1 + rng.IntN(4)
	for rest := wire; rest != ""; pieces-- {
		n := len(rest)
		if pieces > 1 {
			n = 1 + rng.IntN(len(rest))
		}
		if _, err := io.WriteString(conn, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if _, frames, _ := strings.Cut(string(all), "\r\n\r\n"); frames != "\x88\x02\x0f\xa7" {
		return fmt.Errorf("answered with %q", frames)
	}
	return nil
}
