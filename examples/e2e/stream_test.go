package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// arrived is a task's event, or a notice.
type arrived struct {
	Type    string
	EventID string
	Payload struct{ SuspendID string }
	notice  string // the SSE event's name: "gap", "closing"
	data    string
}

func (a arrived) terminal() bool {
	return a.Type == "TASK_COMPLETED" || a.Type == "TASK_FAILED" || a.Type == "TASK_CANCELLED"
}

// readSSE follows a task until its stream ends. err is nil if that was a clean
// end, as the end of a task is; heartbeats are left out.
func readSSE(t *testing.T, address string) (status int, events []arrived, err error) {
	t.Helper()
	return readSSEWith(t, address, func(arrived) {})
}

// readSSEWith is readSSE, and calls each with every event as it comes.
func readSSEWith(t *testing.T, address string, each func(arrived)) (status int, events []arrived, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	var notice string
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return response.StatusCode, events, nil
		}
		if err != nil {
			return response.StatusCode, events, err
		}
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			notice = name
		} else if data, ok := strings.CutPrefix(line, "data: "); ok {
			if e := parse(t, data, notice); e.Type != "HEARTBEAT" || notice != "" {
				events = append(events, e)
				each(e)
			}
			notice = ""
		}
	}
}

func parse(t *testing.T, data, notice string) arrived {
	t.Helper()
	e := arrived{notice: notice, data: data}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return e
}

// readWebSocket follows a task until its socket ends.
func readWebSocket(t *testing.T, base, taskID, origin string) (events []arrived, end websocket.StatusCode) {
	t.Helper()
	return readWebSocketWith(t, base, taskID, origin, func(arrived) {})
}

// readWebSocketWith is readWebSocket, and calls each with every event as it comes.
func readWebSocketWith(t *testing.T, base, taskID, origin string, each func(arrived)) (events []arrived, end websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, response, err := dial(ctx, base, origin)
	if err != nil {
		t.Fatalf("%v: %+v", err, response)
	}
	defer conn.CloseNow()
	subscribe, err := json.Marshal(map[string]string{"action": "subscribe", "taskId": taskID})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(ctx, websocket.MessageText, subscribe); err != nil {
		t.Fatal(err)
	}
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return events, websocket.CloseStatus(err)
		}
		if e := parse(t, string(data), ""); e.Type != "SUBSCRIPTION_CONFIRMED" && e.Type != "HEARTBEAT" {
			events = append(events, e)
			each(e)
		}
	}
}

// dial opens a WebSocket as alice; an empty origin sends none.
func dial(ctx context.Context, base, origin string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	return websocket.Dial(ctx, base+"/api/v1/tasks/ws?access_token=alice", &websocket.DialOptions{HTTPClient: client, HTTPHeader: header})
}

// readPolls polls a task to its end.
func readPolls(t *testing.T, base, taskID string) (events []arrived) {
	t.Helper()
	return readPollsWith(t, base, taskID, func(arrived) {})
}

// readPollsWith is readPolls, and calls each with every event as it comes.
func readPollsWith(t *testing.T, base, taskID string, each func(arrived)) (events []arrived) {
	t.Helper()
	after := ""
	for {
		var page struct {
			Events           []json.RawMessage
			NextAfterEventID *string
		}
		q := url.Values{"waitTimeoutMs": {"20000"}, "afterEventId": {after}}
		call(t, http.MethodGet, base+"/api/v1/tasks/"+taskID+"/events?"+q.Encode(), nil, http.StatusOK, &page)
		for _, raw := range page.Events {
			events = append(events, parse(t, string(raw), ""))
			each(events[len(events)-1])
		}
		if page.NextAfterEventID != nil {
			after = *page.NextAfterEventID
		}
		if len(events) > 0 && events[len(events)-1].terminal() {
			return events
		}
	}
}

// dense checks that these are events from to to, each once, in order.
func dense(t *testing.T, events []arrived, from, to int) {
	t.Helper()
	next := from
	for _, e := range events {
		if e.notice != "" {
			continue
		}
		if ordinal(e.EventID) != next {
			t.Fatalf("event %d was due, %s came", next, e.EventID)
		}
		next++
	}
	if next != to+1 {
		t.Fatalf("events %d to %d, want up to %d", from, next-1, to)
	}
}
