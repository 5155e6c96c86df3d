package faulty

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// framing is how a transport writes.
type framing struct {
	event  func(id, body string)
	notice func(name, extra string) // extra keys of a heartbeat
	noise  func()
	broken func()
	end    func()
	// partial begins something.
	partial func()
}

const passage = "A task is an ordered log of events, and everything else is a way to write to that log or to read it. "

// play sends a task's log from a cursor on.
func (s *Server) play(t *task, cursor int, f framing) {
	last, fault := t.count+2, s.cfg.Fault
	middle := 2 + t.count/2
	resumed := cursor > 0
	text := strings.Repeat(passage, 2+t.size/len(passage))
	send := func(n int, size int, change func(id, body string) (string, string)) {
		at := t.start.Add(time.Duration(max(n-2, 0)) * t.interval)
		kind := "TASK_MESSAGE"
		var payload string
		from := (n - 2) * t.size % len(passage)
		switch n {
		case 1:
			kind, payload = "TASK_STARTED", `{}`
		case last:
			kind, payload = "TASK_COMPLETED", fmt.Sprintf(`{"result":{"tokens":%d}}`, t.count)
		default:
			payload = `{"message":"` + text[max(from, 0):][:size] + `"}`
		}
		id := fmt.Sprintf("%d-%d", at.UnixMilli(), n)
		created := at.UTC().Format("2006-01-02T15:04:05.000000Z")
		body := fmt.Sprintf(`{"type":%q,"taskId":%q,"eventId":%q,"createdAt":%q,"payload":%s}`, kind, t.id, id, created, payload)
		if fault == OKKeyOrder && kind == "TASK_MESSAGE" && n%2 == 0 {
			body = fmt.Sprintf(`{"type":%q, "payload":%s, "createdAt":%q, "eventId":%q, "taskId":%q}`, kind, payload, created, id, t.id)
		}
		if change != nil {
			id, body = change(id, body)
		}
		f.event(id, body)
	}
	if fault == SilentTrim && !resumed {
		cursor = middle
	}
	if fault == OKRepeat && resumed {
		cursor -= 3
	}
	if (fault == OKGap || fault == LyingGap) && !resumed {
		first := middle
		if fault == LyingGap {
			first = middle + 1
		}
		f.notice("gap", fmt.Sprintf(`,"gap":{"reason":"trimmed","afterEventId":null,"firstEventId":"1-%d"}`, first))
		cursor = middle - 1
	}
	for n := cursor + 1; n <= last; n++ {
		wait := time.NewTimer(time.Until(t.start.Add(time.Duration(max(n-2, 0)) * t.interval)))
		select {
		case <-s.life.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		if fault == OKHeartbeats {
			f.noise()
		}
		if n == middle {
			switch fault {
			case Drop:
				continue
			case Repeat:
				send(n, t.size, nil)
			case Swap:
				send(n+1, t.size, nil)
				send(n, t.size, nil)
				n++
				continue
			case OtherText:
				send(n, t.size, func(id, body string) (string, string) {
					return id, strings.Replace(body, `"message":"`, `"message":"#`, 1)[:len(body)-2] + `"}}`[1:]
				})
				continue
			case ShortText:
				send(n, t.size-1, nil)
				continue
			case OtherID:
				send(n, t.size, func(id, body string) (string, string) { return id + "0", body })
				continue
			case OtherTask:
				send(n, t.size, func(id, body string) (string, string) {
					return id, strings.Replace(body, t.id, "x"+t.id[1:], 1)
				})
				continue
			case BadJSON:
				send(n, t.size, func(id, body string) (string, string) { return id, body[:len(body)-1] })
				continue
			case NotUTF8:
				send(n, t.size, func(id, body string) (string, string) {
					return id, string(bytes.Replace([]byte(body), []byte(`message":"`), []byte("message\":\"\xff"), 1))
				})
				continue
			case TimeBack:
				send(n, t.size, func(id, body string) (string, string) {
					back := fmt.Sprintf("1000-%d", n)
					return back, strings.Replace(body, id, back, 1)
				})
				continue
			case EarlyEnd:
				f.end()
				return
			case NoEnd:
				<-s.life.Done()
				return
			case BrokenFrame:
				f.broken()
				return
			case OKCut, OKRepeat:
				if !resumed {
					f.partial()
					return
				}
			case OKAhead:
				if !resumed {
					f.notice("gap", fmt.Sprintf(`,"gap":{"reason":"ahead","afterEventId":"1-%d","firstEventId":"1-%d"}`, n-3, n-2))
					send(n-2, t.size, nil)
					send(n-1, t.size, nil)
				}
			}
		}
		send(n, t.size, nil)
	}
	if fault == AfterEnd {
		f.event("9999999999999-"+strconv.Itoa(last+1), fmt.Sprintf(`{"type":"TASK_STARTED","taskId":%q,"eventId":"9999999999999-%d","createdAt":"2026-01-01T00:00:00.000000Z","payload":{}}`, t.id, last+1))
	}
	if fault == OKCutAtEnd && !resumed {
		return
	}
	f.end()
}
