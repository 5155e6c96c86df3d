package wire

import (
	"bytes"
	"errors"
	"strconv"
)

// Head is the head of an HTTP answer.
type Head struct {
	Status      int
	Chunked     bool
	ContentType string
	Accept      string // Sec-WebSocket-Accept
	RetryAfter  int    // seconds, 0 if there is none
}

// MaxHead is how long a head may be.
const MaxHead = 16 << 10

var errHead = errors.New("not an HTTP head")

// ParseHead parses the head at the beginning of b and returns its length; 0
// and no error if b ends before it does.
func ParseHead(b []byte) (h Head, n int, err error) {
	n = bytes.Index(b, []byte("\r\n\r\n"))
	if n < 0 {
		if len(b) > MaxHead {
			return h, 0, errHead
		}
		return h, 0, nil
	}
	lines := bytes.Split(b[:n], []byte("\r\n"))
	status := bytes.Fields(lines[0])
	if len(status) < 2 || !bytes.HasPrefix(status[0], []byte("HTTP/1.")) {
		return h, 0, errHead
	}
	if h.Status, err = strconv.Atoi(string(status[1])); err != nil {
		return h, 0, errHead
	}
	for _, line := range lines[1:] {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return h, 0, errHead
		}
		value = bytes.TrimSpace(value)
		switch string(bytes.ToLower(name)) {
		case "transfer-encoding":
			h.Chunked = bytes.EqualFold(value, []byte("chunked"))
		case "content-type":
			h.ContentType = string(value)
		case "sec-websocket-accept":
			h.Accept = string(value)
		case "retry-after":
			h.RetryAfter, _ = strconv.Atoi(string(value)) // a date is no number: then 0
		}
	}
	return h, n + 4, nil
}
