package redistest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Every server knows this user, whatever the test does to the others.
const (
	adminName     = "redistest"
	adminPassword = "redistest"
)

// replyTimeout bounds one command of the tests' own.
const replyTimeout = 15 * time.Second

// call sends one command on a connection of its own. The reply is a string, an
// int64, a []any of replies, or nil.
func call(addr string, secure *tls.Config, auth bool, args ...string) (any, error) {
	c, err := dial(addr, secure)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	if auth {
		if _, err := exchange(c, r, "AUTH", adminName, adminPassword); err != nil {
			return nil, err
		}
	}
	return exchange(c, r, args...)
}

func dial(addr string, secure *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	if secure != nil {
		return (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func exchange(w io.Writer, r *bufio.Reader, args ...string) (any, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return nil, err
	}
	return readReply(r)
}

func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("redistest: an empty line for a reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, errors.New(rest)
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	case '$', '*':
	default:
		return nil, fmt.Errorf("redistest: a reply of kind %q", kind)
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 0 {
		return nil, err
	}
	if kind == '$' {
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	}
	return readArray(r, n)
}

// readArray reads all of it even if an element is an error, which it returns.
func readArray(r *bufio.Reader, n int) (any, error) {
	all := make([]any, n)
	var failed error
	for i := range all {
		v, err := readReply(r)
		failed = errors.Join(failed, err)
		all[i] = v
	}
	return all, failed
}
