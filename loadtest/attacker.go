//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/abuse"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
)

// attackerSubject is whom the attacker signs in as.
const attackerSubject = "attacker"

// order is what an attacker process is told to do.
type order struct {
	Attack  string
	Seconds float64
	Options abuse.Options
}

// attackerProcess is an attack in a process of its own, so that its memory and
// its collections of garbage are not those of the honest clients.
type attackerProcess struct {
	p *proc.Process
}

// attack starts an attacker, which stops by itself.
func (s *stage) attack(one *server, a *abuse.Attack, d time.Duration) (*attackerProcess, error) {
	told, err := json.Marshal(order{
		Attack: a.Name, Seconds: d.Seconds(),
		Options: abuse.Options{
			Addr: net.JoinHostPort(one.target.Addr.Addr().String(), strconv.Itoa(int(one.target.Addr.Port()))),
			Base: one.target.Base, Subject: attackerSubject, Short: s.short,
		},
	})
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := s.start(proc.Command{Path: self, Args: []string{string(told)}, Env: []string{roleEnv + "=attacker"}, CPUs: s.clientCPUs})
	if err != nil {
		return nil, err
	}
	p.Expect()
	return &attackerProcess{p}, nil
}

// endTime is how long an attacker may take to end its connections and tasks.
const endTime = time.Minute

// result waits for the attacker's end.
func (a *attackerProcess) result(ctx context.Context, patience time.Duration) (*abuse.Result, error) {
	stop := context.AfterFunc(ctx, func() { _ = a.p.Signal(syscall.SIGTERM) })
	defer stop()
	line, err := a.p.AwaitLine("result ", patience+endTime)
	if err != nil {
		a.p.Stop(0)
		return nil, fmt.Errorf("the attacker: %w", err)
	}
	<-a.p.Exited()
	r := new(abuse.Result)
	return r, json.Unmarshal([]byte(line), r)
}

// playAttack is the program as an attacker.
func playAttack() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := func() error {
		var o order
		if err := json.Unmarshal([]byte(strings.Join(os.Args[1:], " ")), &o); err != nil {
			return err
		}
		attack := abuse.Find(o.Attack)
		if attack == nil {
			return fmt.Errorf("no attack %q", o.Attack)
		}
		if _, err := proc.RaiseFiles(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Duration(o.Seconds*float64(time.Second)))
		defer cancel()
		r, err := attack.Play(ctx, o.Options)
		if err != nil {
			return err
		}
		said, err := json.Marshal(r)
		if err == nil {
			_, err = fmt.Fprintf(os.Stdout, "result %s\n", said)
		}
		return err
	}()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "attacker:", err)
		return exitFailed
	}
	return exitOK
}
