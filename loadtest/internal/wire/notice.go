package wire

import "encoding/json"

// Notice is what a heartbeat may carry, of either transport, and the other
// answers of a WebSocket. They are rare: their parsing may allocate.
type Notice struct {
	Type    string        `json:"type"`
	TaskID  string        `json:"taskId"`
	Code    string        `json:"code"`
	Message string        `json:"message"`
	Gap     *GapNotice    `json:"gap"`
	Closing *CloseNotice  `json:"closing"`
	Payload noticePayload `json:"payload"`
}

type noticePayload struct {
	Live    bool         `json:"live"`
	Gap     *GapNotice   `json:"gap"`
	Closing *CloseNotice `json:"closing"`
}

// GapNotice announces events that are gone.
type GapNotice struct {
	Reason string  `json:"reason"`
	After  *string `json:"afterEventId"`
	First  *string `json:"firstEventId"`
}

// FirstOrdinal is the ordinal of the event behind the hole, 0 if it names none.
func (g *GapNotice) FirstOrdinal() uint64 {
	if g.First == nil {
		return 0
	}
	_, ordinal, _ := ParseID([]byte(*g.First))
	return ordinal
}

// CloseNotice announces a cut.
type CloseNotice struct {
	Reason       string `json:"reason"`
	RetryAfterMs int64  `json:"retryAfterMs"`
}

// ParseNotice parses a heartbeat or another message that is no event. What SSE
// has in its payload stands at the top afterwards, as WebSocket has it.
func ParseNotice(body []byte) (Notice, error) {
	var n Notice
	if err := json.Unmarshal(body, &n); err != nil {
		return n, err
	}
	if n.Gap == nil {
		n.Gap = n.Payload.Gap
	}
	if n.Closing == nil {
		n.Closing = n.Payload.Closing
	}
	return n, nil
}
