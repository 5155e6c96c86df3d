package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// blocked is a connection with a blocked XREAD on it. It does as little as
// possible, less than any client library: what it is compared with must not win
// by a careless opponent.
type blocked struct {
	conn net.Conn
	in   *bufio.Reader
	logs []followed
	// at is where each log stands, and index where it is in logs.
	at      []string
	index   map[string]int
	command []byte
	l       *latencies
}

func newBlocked(addr string, logs []followed, l *latencies) (*blocked, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := &blocked{
		conn: conn, in: bufio.NewReaderSize(conn, 4<<10), logs: logs,
		at: make([]string, len(logs)), index: make(map[string]int, len(logs)), l: l,
	}
	for i, log := range logs {
		b.at[i] = log.After.String()
		if log.After.IsZero() {
			b.at[i] = "0-0"
		}
		b.index[log.Key] = i
	}
	return b, nil
}

// run reads until the connection is closed.
func (b *blocked) run() {
	for {
		b.build()
		if _, err := b.conn.Write(b.command); err != nil {
			return
		}
		answer, err := readReply(b.in)
		if err != nil {
			return
		}
		if answer.err != "" {
			b.l.bad.Add(1)
			return
		}
		b.take(answer)
	}
}

// build makes XREAD COUNT 100 BLOCK 5000 STREAMS keys... ids...
func (b *blocked) build() {
	c := append(b.command[:0], '*')
	c = strconv.AppendInt(c, int64(6+2*len(b.logs)), 10)
	c = append(c, "\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$3\r\n100\r\n$5\r\nBLOCK\r\n$4\r\n5000\r\n$7\r\nSTREAMS\r\n"...)
	for i := range b.logs {
		c = appendBulk(c, b.logs[i].Key)
	}
	for _, at := range b.at {
		c = appendBulk(c, at)
	}
	b.command = c
}

func appendBulk(c []byte, s string) []byte {
	c = append(c, '$')
	c = strconv.AppendInt(c, int64(len(s)), 10)
	c = append(c, "\r\n"...)
	c = append(c, s...)
	return append(c, "\r\n"...)
}

// take hands out the entries of an answer: [[key, [[id, [name, value, ...]], ...]], ...].
func (b *blocked) take(answer reply) {
	now := time.Now().UnixNano()
	for _, stream := range answer.elems {
		i, known := b.index[string(stream.elems[0].bulk)]
		if !known {
			b.l.bad.Add(1)
			continue
		}
		entries := stream.elems[1].elems
		for _, entry := range entries {
			b.l.arrived(entry.elems[1].elems[1].bulk, now)
		}
		b.at[i] = string(entries[len(entries)-1].elems[0].bulk)
	}
}

// reply is an answer in RESP2.
type reply struct {
	bulk  []byte
	elems []reply
	err   string
}

func readReply(in *bufio.Reader) (reply, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return reply{}, err
	}
	if len(line) < 3 {
		return reply{}, fmt.Errorf("an answer that cannot be read: %q", line)
	}
	kind, rest := line[0], line[1:len(line)-2]
	if kind == '-' {
		return reply{err: string(rest)}, nil
	}
	n, err := strconv.Atoi(string(rest))
	if err != nil {
		return reply{}, err
	}
	switch {
	case kind != '$' && kind != '*':
		return reply{}, fmt.Errorf("an answer of an unexpected kind: %q", kind)
	case n < 0:
		return reply{}, nil
	case kind == '$':
		b := make([]byte, n+2)
		_, err = io.ReadFull(in, b)
		return reply{bulk: b[:n]}, err
	}
	r := reply{elems: make([]reply, n)}
	for i := range r.elems {
		if r.elems[i], err = readReply(in); err != nil {
			return reply{}, err
		}
	}
	return r, nil
}
