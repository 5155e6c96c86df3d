package conformance_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/spec"
)

// answer holds what came over a bare connection against the document.
func answer(t *testing.T, c *client.Client, method, path string, res *http.Response, body []byte) client.Answer {
	t.Helper()
	p, err := spec.Load()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, c.Base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Answer(req, res.StatusCode, res.Header, body); err != nil {
		t.Error(err)
	}
	return client.Answer{Status: res.StatusCode, Header: res.Header, Body: body}
}

// part is one part of a multipart form, written by hand: mime/multipart would
// quote and check.
type part struct{ head, body string }

func field(name, value string) part {
	return part{fmt.Sprintf("Content-Disposition: form-data; name=%q", name), value}
}

func file(name, filename, contentType, body string) part {
	// The file name goes out as it is: a backslash must not become two.
	return part{fmt.Sprintf("Content-Disposition: form-data; name=%q; filename=\"%s\"\r\nContent-Type: %s", name, filename, contentType), body}
}

type formBody struct {
	body        []byte
	contentType string
}

func form(parts ...part) formBody {
	const boundary = "xXxXx"
	var b bytes.Buffer
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n\r\n%s\r\n", boundary, p.head, p.body)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return formBody{b.Bytes(), "multipart/form-data; boundary=" + boundary}
}

func (f formBody) post(c *client.Client) client.Answer {
	return c.Do(http.MethodPost, tasks, http.Header{"Content-Type": {f.contentType}}, f.body)
}

// greet is a form that begins as every form here does.
func greet(id string, more ...part) formBody {
	return form(append([]part{field("clientRequestId", id), field("taskType", "greet"), field("input", `{"name":"Ada"}`)}, more...)...)
}

func TestFormCreates(t *testing.T) {
	c := connect(t)
	got := created(t, greet(client.FreshID(), file("attachment", "a.txt", "text/plain", "hello"), field("metadata", `{"a":1}`)).post(c), http.StatusCreated)
	log := c.PollToEnd(got.TaskID, "")
	if !strings.Contains(string(log[len(log)-1].Payload), "Ada") {
		t.Errorf("the input did not arrive: %s", log[len(log)-1].Payload)
	}
}

func TestFormAndJSONCompareEqual(t *testing.T) {
	asJSON := func(id string) string { return create(id, "greet", `{"name":"Ada"}`) }
	t.Run("JSON first", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		first := created(t, c.Post(tasks, asJSON(id)), http.StatusCreated)
		if again := created(t, greet(id).post(c), http.StatusOK); again.TaskID != first.TaskID {
			t.Error("two tasks")
		}
	})
	t.Run("form first", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		created(t, greet(id).post(c), http.StatusCreated)
		created(t, c.Post(tasks, asJSON(id)), http.StatusOK)
	})
	t.Run("a file makes a difference", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		created(t, c.Post(tasks, asJSON(id)), http.StatusCreated)
		greet(id, file("attachment", "a.txt", "text/plain", "")).post(c).Want(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
	})
	t.Run("no input is {}", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		created(t, form(field("taskType", "greet"), field("clientRequestId", id)).post(c), http.StatusCreated)
		created(t, c.Post(tasks, create(id, "greet", "{}")), http.StatusOK)
	})
}

// A file that is not taken is refused by name, and nothing is created.
func TestFormRefusesOtherFiles(t *testing.T) {
	c, id := connect(t), client.FreshID()
	answer := greet(id, file("picture", "p.png", "image/png", "png")).post(c)
	answer.Want(t, http.StatusBadRequest, "UPLOAD_VALIDATION_ERROR")
	if !strings.Contains(string(answer.Body), "picture") {
		t.Errorf("it does not name the file: %s", answer.Body)
	}
	created(t, greet(id).post(c), http.StatusCreated)
}

func TestFormComparesFiles(t *testing.T) {
	a, b := file("attachment", "a.txt", "text/plain", "one"), file("attachment", "b.bin", "application/octet-stream", "two\r\n\x00\xff")
	for _, tc := range []struct {
		name   string
		first  []part
		second []part
		equal  bool
	}{
		{"the same", []part{a, b}, []part{a, b}, true},
		{"the other field name", []part{a, b}, []part{file("attachments", "a.txt", "text/plain", "one"), file("attachments", "b.bin", "application/octet-stream", "two\r\n\x00\xff")}, true},
		{"both field names", []part{a, file("attachments", "b.bin", "application/octet-stream", "two\r\n\x00\xff")}, []part{a, b}, true},
		{"field names of lists", []part{a, b}, []part{file("attachments[]", "a.txt", "text/plain", "one"), file("attachment[7]", "b.bin", "application/octet-stream", "two\r\n\x00\xff")}, true},
		{"a directory", []part{a}, []part{file("attachment", "x/y/../a.txt", "text/plain", "one")}, true},
		{"a directory of the other slash", []part{a}, []part{file("attachment", `C:\x\a.txt`, "text/plain", "one")}, true},
		{"order", []part{a, b}, []part{b, a}, false},
		{"bytes", []part{a}, []part{file("attachment", "a.txt", "text/plain", "One")}, false},
		{"name", []part{a}, []part{file("attachment", "A.txt", "text/plain", "one")}, false},
		{"content type", []part{a}, []part{file("attachment", "a.txt", "text/html", "one")}, false},
		{"one more", []part{a}, []part{a, a}, false},
		{"one less", []part{a, b}, []part{a}, false},
		{"split otherwise", []part{file("attachment", "a.txt", "text/plain", "on"), file("attachment", "a.txt", "text/plain", "e")}, []part{file("attachment", "a.txt", "text/plain", "o"), file("attachment", "a.txt", "text/plain", "ne")}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, id := connect(t), client.FreshID()
			first := created(t, greet(id, tc.first...).post(c), http.StatusCreated)
			again := greet(id, tc.second...).post(c)
			if !tc.equal {
				again.Want(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
			} else if got := created(t, again, http.StatusOK); got.TaskID != first.TaskID {
				t.Error("two tasks")
			}
		})
	}
}

func TestFormRefusals(t *testing.T) {
	id, kind := field("clientRequestId", "a"), field("taskType", "greet")
	const boundary = "multipart/form-data; boundary=xXxXx"
	whole := string(form(id, kind).body)
	for _, tc := range []struct {
		name, contentType, body string
	}{
		{"no id", boundary, string(form(kind).body)},
		{"no type", boundary, string(form(id).body)},
		{"empty id", boundary, string(form(field("clientRequestId", ""), kind).body)},
		{"long id", boundary, string(form(field("clientRequestId", strings.Repeat("x", 256)), kind).body)},
		{"input is a list", boundary, string(form(id, kind, field("input", "[]")).body)},
		{"input is text", boundary, string(form(id, kind, field("input", "hello")).body)},
		{"input is null", boundary, string(form(id, kind, field("input", "null")).body)},
		{"input is two values", boundary, string(form(id, kind, field("input", "{}{}")).body)},
		{"metadata is a list", boundary, string(form(id, kind, field("metadata", "[]")).body)},
		{"unknown type", boundary, string(form(id, field("taskType", "no-such-type")).body)},
		{"no boundary", "multipart/form-data", whole},
		{"another boundary", "multipart/form-data; boundary=other", whole},
		{"empty", boundary, ""},
		{"cut off", boundary, whole[:len(whole)-12]},
		{"cut off in a head", boundary, whole[:20]},
		{"no parts", boundary, "--xXxXx--\r\n"},
		{"not UTF-8", boundary, string(form(field("clientRequestId", "a\xff"), kind).body)},
		{"input not UTF-8", boundary, string(form(id, kind, field("input", "{\"a\":\"\xff\"}")).body)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := connect(t)
			c.Do(http.MethodPost, tasks, http.Header{"Content-Type": {tc.contentType}}, []byte(tc.body)).Want(t, http.StatusBadRequest, "INVALID_REQUEST")
		})
	}
}

func TestTooManyFilesAreRefused(t *testing.T) {
	c := connect(t)
	var files []part
	for range 50 {
		files = append(files, file("attachment", "a.txt", "text/plain", "x"))
	}
	greet(client.FreshID(), files...).post(c).Want(t, http.StatusBadRequest, "UPLOAD_VALIDATION_ERROR")
}
