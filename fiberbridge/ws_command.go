package fiberbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// wsAction is what a client's frame asks for.
type wsAction uint8

const (
	actionSubscribe wsAction = iota + 1
	actionUnsubscribe
)

// wsCommand is one frame of a client.
type wsCommand struct {
	action wsAction
	taskID string
	// cursor is lastEventId as it was sent, nil if absent or null.
	cursor *string
}

// Why a frame is refused; texts of close frames, so at most 123 bytes.
var (
	errFrameJSON   = errors.New("a frame must be one JSON object")
	errFrameField  = errors.New("unknown or repeated field in frame")
	errFrameAction = errors.New(`action must be "subscribe" or "unsubscribe"`)
	errFrameTask   = errors.New("taskId must be a non-empty string")
	errFrameCursor = errors.New("lastEventId must be a string")
)

// parseCommand reads a client's frame: an object with the fields action, taskId
// and, for subscribe, lastEventId, each once, spelled exactly, and nothing else.
// It walks the tokens itself because encoding/json's structs fold case and let
// the last of two fields win.
func parseCommand(frame []byte) (wsCommand, error) {
	dec := json.NewDecoder(bytes.NewReader(frame))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return wsCommand{}, errFrameJSON
	}
	var cmd wsCommand
	var action *string
	var hasTask, hasCursor bool
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return wsCommand{}, errFrameJSON
		}
		value, err := dec.Token()
		if err != nil {
			return wsCommand{}, errFrameJSON
		}
		text, isText := value.(string)
		switch {
		case name == "action" && action == nil:
			if !isText {
				return wsCommand{}, errFrameAction
			}
			action = &text
		case name == "taskId" && !hasTask:
			if !isText || text == "" {
				return wsCommand{}, errFrameTask
			}
			hasTask, cmd.taskID = true, text
		case name == "lastEventId" && !hasCursor:
			hasCursor = true
			if value == nil {
				break
			}
			if !isText {
				return wsCommand{}, errFrameCursor
			}
			cmd.cursor = &text
		default:
			return wsCommand{}, errFrameField
		}
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') {
		return wsCommand{}, errFrameJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return wsCommand{}, errFrameJSON
	}
	switch {
	case action == nil:
		return wsCommand{}, errFrameAction
	case *action == "subscribe":
		cmd.action = actionSubscribe
	case *action == "unsubscribe":
		cmd.action = actionUnsubscribe
		if cmd.cursor != nil {
			return wsCommand{}, errFrameField
		}
	default:
		return wsCommand{}, errFrameAction
	}
	if !hasTask {
		return wsCommand{}, errFrameTask
	}
	return cmd, nil
}
