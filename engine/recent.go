package engine

import (
	"bytes"
	"time"
)

// recent is look without the store: what the hub has of a task that this process
// follows already. It is false if the hub cannot tell, and then the store must.
//
// What was appended a moment ago may be missing, as far as the store's push
// takes; so it is for those who would wait for it. task is the record, which may
// be from a cache.
func (e *Engine) recent(task Task, after EventID, limit, maxBytes int) (view, bool) {
	if task.Status == StatusAccepted && after.Ordinal > 0 {
		return view{}, false // the cursor may have passed TASK_STARTED, see Poll
	}
	r, ok := e.hub.Recent(task.ID, fanoutID(after), limit)
	if !ok {
		return view{}, false
	}
	v := view{task: task, position: after, more: r.More}
	final := false
	if len(r.Entries) > 0 {
		v.events = make([]Event, len(r.Entries))
		for i, entry := range r.Entries {
			if v.events[i], ok = decodeEvent(entry.Body); !ok {
				return view{}, false
			}
			v.events[i].ID, final = EventID(entry.ID), entry.Final
		}
	}
	if task.Terminal != nil && !final && !v.more {
		return view{}, false // of a task that is over the end must not be missing
	}
	if n := within(v.events, maxBytes); n < len(v.events) {
		v.events, v.more = v.events[:n], true
	}
	return v, true
}

// What AppendJSON writes between the parts of an event.
var (
	eventType    = []byte(`{"type":"`)
	eventTaskID  = []byte(`","taskId":"`)
	eventEventID = []byte(`","eventId":"`)
	eventCreated = []byte(`","createdAt":"`)
	eventPayload = []byte(`","payload":`)
)

// decodeEvent reads what AppendJSON wrote, without its id. The event's payload
// is part of body.
func decodeEvent(body []byte) (ev Event, ok bool) {
	rest, ok := bytes.CutPrefix(body, eventType)
	if !ok || len(rest) == 0 || rest[len(rest)-1] != '}' {
		return Event{}, false
	}
	rest = rest[:len(rest)-1]
	// None of the parts before the payload has a quote in it.
	var part [4][]byte
	for i, separator := range [][]byte{eventTaskID, eventEventID, eventCreated, eventPayload} {
		if part[i], rest, ok = bytes.Cut(rest, separator); !ok {
			return Event{}, false
		}
	}
	createdAt, err := time.Parse(eventTime, string(part[3]))
	if err != nil {
		return Event{}, false
	}
	return Event{
		TaskID: string(part[1]), Type: EventType(part[0]), CreatedAt: createdAt,
		Payload: rest[:len(rest):len(rest)],
	}, true
}
