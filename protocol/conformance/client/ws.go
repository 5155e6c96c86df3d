package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Socket is an open WebSocket.
type Socket struct {
	Response *http.Response

	c    *Client
	conn *websocket.Conn
}

// Frame is one text frame of the server.
type Frame struct {
	Type   string
	TaskID string
	Text   string
	// Event is set for an event; everything else is a control frame.
	Event *Event

	ReplayStartedAfterEventID *string
	Gap                       *Gap
	Closing                   *Closing
	Code, Message, Reason     string
}

// Dial opens a WebSocket; header adds to the usual one.
func (c *Client) Dial(header http.Header) *Socket {
	c.t.Helper()
	s, err := c.TryDial(header)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(s.Cut)
	return s
}

// TryDial is Dial for goroutines other than the test's; the caller cuts.
func (c *Client) TryDial(header http.Header) (*Socket, error) {
	h := http.Header{}
	c.authorize(h)
	for k, vs := range header {
		h[k] = vs
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, c.Base+"/api/v1/tasks/ws", &websocket.DialOptions{
		HTTPHeader: h, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	if err != nil {
		if res != nil {
			return nil, fmt.Errorf("%d: %w", res.StatusCode, err)
		}
		return nil, err
	}
	conn.SetReadLimit(16 << 20)
	return &Socket{Response: res, c: c, conn: conn}, nil
}

// Cut drops the connection without a close frame.
func (s *Socket) Cut() { _ = s.conn.CloseNow() }

// CloseClean sends a close frame and waits for the server's.
func (s *Socket) CloseClean() error { return s.conn.Close(websocket.StatusNormalClosure, "") }

// Send sends a text frame.
func (s *Socket) Send(text string) {
	s.c.t.Helper()
	if err := s.write(websocket.MessageText, text); err != nil {
		s.c.t.Fatal(err)
	}
}

// SendBinary sends a binary frame.
func (s *Socket) SendBinary(data string) {
	s.c.t.Helper()
	if err := s.write(websocket.MessageBinary, data); err != nil {
		s.c.t.Fatal(err)
	}
}

func (s *Socket) write(kind websocket.MessageType, data string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return s.conn.Write(ctx, kind, []byte(data))
}

// Subscribe sends a subscribe frame; an empty cursor is left out.
func (s *Socket) Subscribe(id, after string) {
	s.c.t.Helper()
	frame := map[string]string{"action": "subscribe", "taskId": id}
	if after != "" {
		frame["lastEventId"] = after
	}
	text, err := json.Marshal(frame)
	if err != nil {
		s.c.t.Fatal(err)
	}
	s.Send(string(text))
}

// Unsubscribe sends an unsubscribe frame.
func (s *Socket) Unsubscribe(id string) {
	s.c.t.Helper()
	s.Send(fmt.Sprintf(`{"action":"unsubscribe","taskId":%q}`, id))
}

// ErrQuiet is returned by Next when nothing came in time. The socket cannot be
// read any more then.
var ErrQuiet = errors.New("nothing came")

// Next returns the next frame. The error of a closed socket tells the code;
// see CloseCode.
func (s *Socket) Next(patience time.Duration) (Frame, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, text, err := s.conn.Read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return Frame{}, fmt.Errorf("%w in %v", ErrQuiet, patience)
		}
		return Frame{}, err
	}
	if kind != websocket.MessageText {
		return Frame{}, fmt.Errorf("a frame that is not text: %q", text)
	}
	if err := s.c.protocol.Message("ws-server-frame", text); err != nil {
		return Frame{}, err
	}
	f := Frame{Text: string(text)}
	if err := json.Unmarshal(text, &f); err != nil {
		return Frame{}, err
	}
	switch f.Type {
	case "SUBSCRIPTION_CONFIRMED", "HEARTBEAT", "SUBSCRIPTION_REJECTED", "SUBSCRIPTION_ENDED":
	default:
		f.Event = new(Event)
		if err := json.Unmarshal(text, f.Event); err != nil {
			return Frame{}, err
		}
	}
	return f, nil
}

// Want reads frames until one of that type comes, skipping heartbeats only.
func (s *Socket) Want(kind string) Frame {
	s.c.t.Helper()
	for {
		f, err := s.Next(Patience)
		if err != nil {
			s.c.t.Fatalf("waiting for %s: %v", kind, err)
		}
		if f.Type == kind {
			return f
		}
		if f.Type != "HEARTBEAT" || f.Gap != nil || f.Closing != nil {
			s.c.t.Fatalf("waiting for %s: %s", kind, f.Text)
		}
	}
}

// CloseCode is the code of the close frame that ended a socket, -1 for a cut.
func CloseCode(err error) int { return int(websocket.CloseStatus(err)) }

// IsCut reports whether err is the end of a connection without a close frame.
func IsCut(err error) bool {
	return CloseCode(err) == -1 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET))
}

// Told is what a socket gave.
type Told struct {
	Events   []Event
	Gaps     []Gap // of notices; the one of a confirmation is in Confirmed
	Closings []Closing
	// Confirmed, Rejected and Ended hold those frames in their order.
	Confirmed, Rejected, Ended []Frame
	Heartbeats                 int
	// Code is the code of the close frame, 0 if there was none.
	Code int
	// Cut says that the connection ended without a close frame.
	Cut bool
	// End is why reading stopped.
	End error
}

func (o *Told) add(f Frame) {
	switch {
	case f.Event != nil:
		o.Events = append(o.Events, *f.Event)
	case f.Type == "SUBSCRIPTION_CONFIRMED":
		o.Confirmed = append(o.Confirmed, f)
	case f.Type == "SUBSCRIPTION_REJECTED":
		o.Rejected = append(o.Rejected, f)
	case f.Type == "SUBSCRIPTION_ENDED":
		o.Ended = append(o.Ended, f)
	case f.Gap != nil:
		o.Gaps = append(o.Gaps, *f.Gap)
	case f.Closing != nil:
		o.Closings = append(o.Closings, *f.Closing)
	default:
		o.Heartbeats++
	}
}

// Events reads until it has n more events, or the socket ends.
func (s *Socket) Events(n int) Told {
	return s.Until(func(o Told) bool { return len(o.Events) >= n })
}

// ToEnd reads until the socket ends.
func (s *Socket) ToEnd() Told { return s.Until(func(Told) bool { return false }) }

// Until reads until enough says so, or the socket ends.
func (s *Socket) Until(enough func(Told) bool) Told {
	var o Told
	deadline := time.Now().Add(Patience)
	for !enough(o) {
		f, err := s.Next(time.Until(deadline))
		if err != nil {
			o.Code, o.Cut, o.End = max(0, CloseCode(err)), IsCut(err), err
			return o
		}
		o.add(f)
	}
	return o
}

// SocketToEnd follows one task from the cursor to its end by WebSocket.
func (c *Client) SocketToEnd(id, after string) Told {
	c.t.Helper()
	s := c.Dial(nil)
	s.Subscribe(id, after)
	o := s.ToEnd()
	if o.Code != 1000 {
		c.t.Fatalf("WebSocket after %q: closed with %d (%v); events %s", after, o.Code, o.End, IDs(o.Events))
	}
	return o
}
