package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

func nested(depth int, open, inside, shut string) string {
	return strings.Repeat(open, depth) + inside + strings.Repeat(shut, depth)
}

// mayBeTaken names the hostile bodies that are a valid request after all.
var mayBeTaken = map[string]bool{
	"a megabyte of digits": true, "many equal keys": true, "an exponent of nine 9s": true, "an exponent of 30 digits": true,
	"a small exponent": true, "a zero with an exponent": true, "many digits": true, "many big exponents": true,
}

// hostile holds bodies of a create request. Whatever is wrong with one is the
// client's fault.
func hostile() map[string]string {
	mb := strings.Repeat("x", 1<<20)
	many := strings.Repeat(`"k":1,`, 200_000)
	return map[string]string{
		"lists 10,000 deep":        create("a", "greet", `{"a":`+nested(10_000, "[", "", "]")+`}`),
		"objects 10,000 deep":      create("a", "greet", nested(10_000, `{"a":`, "1", "}")),
		"100,000 deep, not shut":   `{"clientRequestId":` + strings.Repeat("[", 100_000),
		"deep metadata":            `{"clientRequestId":"a","taskType":"greet","metadata":` + nested(10_000, `{"a":`, "1", "}") + `}`,
		"deep unknown field":       `{"clientRequestId":"a","taskType":"greet","x":` + nested(10_000, "[", "", "]") + `}`,
		"deep top":                 nested(10_000, "[", "", "]"),
		"a megabyte of id":         create(mb, "greet", ""),
		"a megabyte of type":       create("a", mb, ""),
		"a megabyte of key":        `{"` + mb + `":1,"clientRequestId":"a","taskType":"greet"}`,
		"megabytes of input":       create("a", "greet", `{"a":"`+mb+mb+`"}`),
		"megabytes of metadata":    `{"clientRequestId":"a","taskType":"greet","metadata":{"a":"` + mb + mb + `"}}`,
		"a megabyte of digits":     create("a", "greet", `{"a":1`+strings.Repeat("0", 1<<20)+`}`),
		"raw 0xff in a string":     "{\"clientRequestId\":\"a\xff\",\"taskType\":\"greet\"}",
		"raw 0xff in the input":    create("a", "greet", "{\"a\":\"\xff\"}"),
		"raw 0xff in a key":        create("a", "greet", "{\"\xff\":1}"),
		"raw 0xff in metadata":     "{\"clientRequestId\":\"a\",\"taskType\":\"greet\",\"metadata\":{\"a\":\"\xff\"}}",
		"overlong":                 create("a", "greet", "{\"a\":\"\xc0\xaf\"}"),
		"a surrogate in UTF-8":     create("a", "greet", "{\"a\":\"\xed\xa0\x80\"}"),
		"cut off in a character":   "{\"clientRequestId\":\"a\",\"taskType\":\"\xe7\x8c",
		"NUL":                      "{\"clientRequestId\":\"a\x00\",\"taskType\":\"greet\"}",
		"a byte order mark":        "\xef\xbb\xbf" + create("a", "greet", ""),
		"UTF-16":                   "\xff\xfe{\x00}\x00",
		"a bad escape":             create("a", "greet", `{"a":"\x41"}`),
		"many equal keys":          create("a", "greet", `{`+many+`"k":1}`),
		"an exponent of nine 9s":   create("a", "greet", `{"a":1e999999999}`),
		"an exponent of 30 digits": create("a", "greet", `{"a":1e999999999999999999999999999999}`),
		"a small exponent":         create("a", "greet", `{"a":1e-999999999}`),
		"a zero with an exponent":  create("a", "greet", `{"a":0e-999999999999999999999999}`),
		"many digits":              create("a", "greet", `{"a":0.`+strings.Repeat("123456789", 10_000)+`e100000}`),
		"many big exponents":       create("a", "greet", `{"a":[`+strings.Repeat(`1e99999999,`, 10_000)+`1]}`),
	}
}

func TestHostileBodies(t *testing.T) {
	c := connect(t)
	open := c.Start("stall", `{}`)
	for name, body := range hostile() {
		t.Run(name, func(t *testing.T) {
			c := c.For(t).As(subject()) // the same id again and again
			for route, path := range map[string]string{"create": tasks, "cancel": tasks + "/" + open + "/cancel"} {
				a := c.Post(path, body)
				if taken := a.Status == http.StatusCreated && mayBeTaken[name]; !taken && (a.Status < 400 || a.Status > 499) {
					t.Errorf("%s: %d %.200s", route, a.Status, a.Body)
				}
				if a.Took > busy(5*time.Second) {
					t.Errorf("%s took %v", route, a.Took)
				}
				if a.Status == http.StatusCreated {
					var got client.Created
					a.Decode(t, &got)
					log := c.PollToEnd(got.TaskID, "")
					client.CheckLog(t, got.TaskID, log, 1)
					// Whatever was taken once is taken as equal again.
					created(t, c.Post(path, body), http.StatusOK)
				}
			}
		})
	}
	// Nothing was lost: the task is still there, and new ones run.
	if s := c.Snapshot(open); s.Status != "RUNNING" && s.Status != "ACCEPTED" {
		t.Errorf("%+v", s)
	}
	c.Cancel(open, "")
	c.Finished("greet", `{"name":"Ada"}`)
}

func TestHostileForms(t *testing.T) {
	id, kind := field("clientRequestId", "a"), field("taskType", "greet")
	var many []part
	for i := range 900 {
		many = append(many, field(fmt.Sprintf("f%d", i), "x"))
	}
	for name, f := range map[string]formBody{
		"deep input":              form(id, kind, field("input", `{"a":`+nested(10_000, "[", "", "]")+`}`)),
		"deep metadata":           form(id, kind, field("metadata", nested(10_000, `{"a":`, "1", "}"))),
		"a megabyte of id":        form(field("clientRequestId", strings.Repeat("x", 1<<20)), kind),
		"a megabyte of name":      form(id, kind, field(strings.Repeat("x", 1<<20), "x")),
		"a megabyte of file name": form(id, kind, file("attachment", strings.Repeat("x", 1<<20), "text/plain", "x")),
		"900 fields":              form(append(many, id, kind)...),
		"the id twice":            form(id, field("clientRequestId", "b"), kind),
		"the id as a file":        form(file("clientRequestId", "id.txt", "text/plain", "a"), kind),
		"the input as a file":     form(id, kind, file("input", "input.json", "application/json", "{}")),
		"no file name":            form(id, kind, file("attachment", "", "text/plain", "x")),
		"only a directory":        form(id, kind, file("attachment", "../..", "text/plain", "x")),
		"a slash":                 form(id, kind, file("attachment", "/", "text/plain", "x")),
		"a backslash":             form(id, kind, file("attachment", `\`, "text/plain", "x")),
		"NUL in a file name":      form(id, kind, file("attachment", "a\x00.txt", "text/plain", "x")),
		"0xff in a file name":     form(id, kind, file("attachment", "a\xff.txt", "text/plain", "x")),
		"a bad content type":      form(id, kind, file("attachment", "a.txt", "\x01;;;==", "x")),
		"a part without a head":   form(id, kind, part{"", "x"}),
		"a part without a name":   form(id, kind, part{"Content-Disposition: form-data", "x"}),
		"a long head":             form(id, kind, part{"X: " + strings.Repeat("y", 1<<20), "x"}),
		"base64":                  form(id, kind, part{"Content-Disposition: form-data; name=\"input\"\r\nContent-Transfer-Encoding: base64", "e30="}),
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t)
			a := f.post(c)
			if a.Status >= 500 {
				t.Errorf("%d %.200s", a.Status, a.Body)
			}
			if a.Status == http.StatusCreated {
				var got client.Created
				a.Decode(t, &got)
				client.CheckLog(t, got.TaskID, c.PollToEnd(got.TaskID, ""), 1)
				created(t, f.post(c), http.StatusOK)
			}
		})
	}
}

// What a client sends must not become a header, or a line of a stream.
func TestHeaderInjection(t *testing.T) {
	c := connect(t)
	evil := "a\r\nSet-Cookie: evil=1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
	for name, a := range map[string]client.Answer{
		"id":          c.Post(tasks, create(evil, "greet", "")),
		"type":        c.Post(tasks, create("a", evil, "")),
		"path":        c.Get(tasks + "/a%0d%0aSet-Cookie:%20evil=1"),
		"cursor":      c.Get(tasks + "/aaaaaaaaaaaaaaaa/events?afterEventId=1%0d%0aSet-Cookie:%20evil=1"),
		"SSE cursor":  c.Do(http.MethodGet, tasks+"/aaaaaaaaaaaaaaaa/events/stream?lastEventId=1%0d%0aSet-Cookie:%20evil=1", nil, nil),
		"request id":  c.Do(http.MethodGet, "/health", http.Header{"X-Request-Id": {"a%0d%0aSet-Cookie: evil=1"}}, nil),
		"form's type": form(field("clientRequestId", "a"), field("taskType", evil)).post(c),
	} {
		if a.Header.Get("Set-Cookie") != "" || a.Status >= 500 || (a.Status < 400 && name != "request id") {
			t.Errorf("%s: %d %v", name, a.Status, a.Header)
		}
	}
	// An id of any other characters is echoed as JSON.
	id := "\u2028\"\\</script>😀" + client.FreshID()
	body, err := json.Marshal(map[string]string{"clientRequestId": id, "taskType": "greet"})
	if err != nil {
		t.Fatal(err)
	}
	if got := created(t, c.Post(tasks, string(body)), http.StatusCreated); got.ClientRequestID != id {
		t.Errorf("%q, sent %q", got.ClientRequestID, id)
	}
}

// Requests that HTTP allows and parsers stumble over.
func TestStrangeRequests(t *testing.T) {
	c := connect(t)
	body := create(client.FreshID(), "greet", "")
	chunks := fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 5, body[:5], len(body)-5, body[5:])
	res, text, err := c.Exchange(http.MethodPost, "POST "+tasks+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+c.Subject+
		"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"+chunks)
	if err != nil {
		t.Fatal(err)
	}
	created(t, answer(t, c, http.MethodPost, tasks, res, text), http.StatusCreated)

	res, text, err = c.Exchange(http.MethodPost, "POST "+tasks+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+c.Subject+
		"\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if err != nil || (res.StatusCode != http.StatusContinue && res.StatusCode != http.StatusBadRequest) {
		t.Errorf("%v %v %s", err, res, text)
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "BREW"} {
		res, text, err := c.Exchange(method, method+" "+tasks+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if err != nil || res.StatusCode < 400 || res.StatusCode >= 500 && res.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s: %v %v %s", method, err, res, text)
		}
	}
}
