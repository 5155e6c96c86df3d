package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SSE is how a stream is asked for; zero values are left out.
type SSE struct {
	After string // Last-Event-ID
	Query string // lastEventId
	// Header adds to, or with an empty list removes from, the usual headers.
	Header http.Header
	// Proto is "HTTP/1.1" unless told otherwise.
	Proto string
}

// Stream is an open SSE response on a connection of its own.
type Stream struct {
	Status int
	Header http.Header
	// Response is the head as net/http understands it.
	Response *http.Response

	id    string
	c     *Client
	conn  net.Conn
	lines *bufio.Reader
	last  string
}

// Message is one SSE message, or a comment, or a lone retry line: what stands
// between two empty lines.
type Message struct {
	ID, Name, Data string
	HasID, HasData bool
	Comments       []string
	Retry          *int
	// Event is set if Data is an event of the task.
	Event *Event
	// Gap and Closing are set if Data is such a notice.
	Gap     *Gap
	Closing *Closing
	// Heartbeat is set if Data is a plain heartbeat.
	Heartbeat bool
}

// Closing is the notice before a cut.
type Closing struct {
	Reason       string `json:"reason"`
	RetryAfterMs int    `json:"retryAfterMs"`
}

// ErrCut is how a stream ends that did not end with the last chunk.
var ErrCut = errors.New("the stream was cut")

// Follow opens a stream that must be granted with 200.
func (c *Client) Follow(id string, s SSE) *Stream {
	c.t.Helper()
	stream := c.OpenSSE(id, s)
	if stream.Status != http.StatusOK {
		body, _ := io.ReadAll(stream.Response.Body)
		c.t.Fatalf("SSE: %d %s", stream.Status, body)
	}
	return stream
}

// OpenSSE asks for a stream and returns whatever the answer is.
func (c *Client) OpenSSE(id string, s SSE) *Stream {
	c.t.Helper()
	stream, err := c.TrySSE(id, s)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(stream.Close)
	return stream
}

// TrySSE is OpenSSE for goroutines other than the test's; the caller closes.
func (c *Client) TrySSE(id string, s SSE) (*Stream, error) {
	path := "/api/v1/tasks/" + id + "/events/stream" + query("lastEventId", s.Query)
	req, err := http.NewRequest(http.MethodGet, c.Base+path, nil)
	if err != nil {
		return nil, err
	}
	c.authorize(req.Header)
	req.Header.Set("Accept", "text/event-stream")
	if s.After != "" {
		req.Header.Set("Last-Event-ID", s.After)
	}
	for k, vs := range s.Header {
		if len(vs) == 0 {
			delete(req.Header, k)
		} else {
			req.Header[k] = vs
		}
	}
	conn, err := net.DialTimeout("tcp", c.host(), Patience)
	if err != nil {
		return nil, err
	}
	proto := s.Proto
	if proto == "" {
		proto = "HTTP/1.1"
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "GET %s %s\r\nHost: %s\r\n", req.URL.RequestURI(), proto, c.host())
	_ = req.Header.Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	_ = conn.SetDeadline(time.Now().Add(Patience))
	if _, err := conn.Write(head.Bytes()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	stream := &Stream{
		Status: res.StatusCode, Header: res.Header, Response: res,
		id: id, c: c, conn: conn, lines: bufio.NewReader(res.Body),
	}
	if res.StatusCode != http.StatusOK {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		if err := c.protocol.Answer(req, res.StatusCode, res.Header, body); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return stream, nil
	}
	// The body is judged message by message.
	return stream, c.protocol.Answer(req, res.StatusCode, res.Header, []byte(": connected\n"))
}

// Close closes the connection, as a client that goes away.
func (s *Stream) Close() { s.conn.Close() }

// Reset closes the connection with a reset.
func (s *Stream) Reset() {
	if tcp, ok := s.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	s.conn.Close()
}

// Next returns the next message, io.EOF after a clean end, and ErrCut after
// any other. A comment is a message of its own, together with the retry lines
// before it. It is returned as soon as it is read, since no blank line ends it.
func (s *Stream) Next(patience time.Duration) (Message, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	var m Message
	for begun := false; ; {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			var timeout net.Error
			switch {
			case errors.As(err, &timeout) && timeout.Timeout():
				return m, fmt.Errorf("nothing came in %v: %w", patience, err)
			case errors.Is(err, io.EOF) && !begun && line == "":
				return m, io.EOF
			}
			return m, fmt.Errorf("%w: %w in %q", ErrCut, err, line)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return m, s.judge(&m)
		}
		begun = true
		if err := m.take(line); err != nil {
			return m, err
		}
		if line[0] == ':' && !m.HasData && !m.HasID && m.Name == "" {
			return m, nil
		}
	}
}

// take reads one line the way the HTML standard does, but refuses what the
// contract does not send.
func (m *Message) take(line string) error {
	if strings.ContainsRune(line, '\r') {
		return fmt.Errorf("a carriage return in %q", line)
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "":
		m.Comments = append(m.Comments, value)
	case "id":
		m.ID, m.HasID = value, true
	case "event":
		m.Name = value
	case "data":
		if m.HasData {
			return fmt.Errorf("a second data line: %q", line)
		}
		m.Data, m.HasData = value, true
	case "retry":
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("retry: %w", err)
		}
		m.Retry = &n
	default:
		return fmt.Errorf("an SSE field that the contract does not have: %q", line)
	}
	return nil
}

// judge holds a message against the protocol.
func (s *Stream) judge(m *Message) error {
	if !m.HasData {
		// Many readers dispatch a message with empty data here.
		return fmt.Errorf("a blank line with no data before it: %+v", *m)
	}
	if err := s.c.protocol.Message("sse-data", []byte(m.Data)); err != nil {
		return err
	}
	var head struct {
		Type, TaskID string
		Payload      struct {
			Gap     *Gap
			Closing *Closing
		}
	}
	if err := json.Unmarshal([]byte(m.Data), &head); err != nil {
		return err
	}
	if head.TaskID != s.id {
		return fmt.Errorf("a message of task %s on the stream of %s", head.TaskID, s.id)
	}
	if head.Type != "HEARTBEAT" {
		m.Event = new(Event)
		if err := json.Unmarshal([]byte(m.Data), m.Event); err != nil {
			return err
		}
		if m.ID != m.Event.EventID || m.Name != "" {
			return fmt.Errorf("event %s has id: %q and event: %q", m.Event.EventID, m.ID, m.Name)
		}
		s.last = m.ID
		return nil
	}
	m.Gap, m.Closing = head.Payload.Gap, head.Payload.Closing
	m.Heartbeat = m.Gap == nil && m.Closing == nil
	want := map[bool]string{m.Gap != nil: "gap", m.Closing != nil: "closing", m.Heartbeat: ""}[true]
	if m.HasID || m.Name != want {
		return fmt.Errorf("a notice with id %q under the name %q, want none and %q: %s", m.ID, m.Name, want, m.Data)
	}
	return nil
}

// Heard is what a stream gave.
type Heard struct {
	Events   []Event
	Gaps     []Gap
	Closings []Closing
	// Heartbeats counts the JSON ones, Comments holds all comments.
	Heartbeats int
	Comments   []string
	// Retry is the last retry: value.
	Retry *int
	// End is io.EOF after a clean end, ErrCut (wrapped) after a cut.
	End error
}

func (h *Heard) add(m Message) {
	h.Comments = append(h.Comments, m.Comments...)
	if m.Retry != nil {
		h.Retry = m.Retry
	}
	switch {
	case m.Event != nil:
		h.Events = append(h.Events, *m.Event)
	case m.Gap != nil:
		h.Gaps = append(h.Gaps, *m.Gap)
	case m.Closing != nil:
		h.Closings = append(h.Closings, *m.Closing)
	case m.Heartbeat:
		h.Heartbeats++
	}
}

// Events reads until it has n more events, or the stream ends.
func (s *Stream) Events(n int) Heard {
	var h Heard
	deadline := time.Now().Add(Patience)
	for len(h.Events) < n {
		m, err := s.Next(time.Until(deadline))
		if err != nil {
			h.End = err
			return h
		}
		h.add(m)
	}
	return h
}

// ToEnd reads until the stream ends.
func (s *Stream) ToEnd() Heard { return s.Events(1 << 30) }

// FollowToEnd follows a task from the cursor to its end by SSE: what it was
// told, all of it clean.
func (c *Client) FollowToEnd(id, after string) Heard {
	c.t.Helper()
	h := c.Follow(id, SSE{After: after}).ToEnd()
	if !errors.Is(h.End, io.EOF) {
		c.t.Fatalf("SSE after %q: %v; events %s", after, h.End, IDs(h.Events))
	}
	return h
}
