package abuse

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// smuggling puts the text of a request into the bodies of others: whatever
// answers twice on one connection has executed it.
func smuggling(ctx context.Context, a *attacker) {
	id := a.prepare(ctx, "greet", "{}")
	var last string
	a.await(ctx, id, func(status, next string) bool { last = next; return status == "COMPLETED" })
	task := a.Base + "/tasks/" + id
	routes := []struct {
		method, path string
		fields       []string
	}{
		{http.MethodGet, task + "/events/stream", []string{a.bearer(), "Last-Event-ID: " + last}},
		{http.MethodGet, task + "/events?afterEventId=" + last, []string{a.bearer()}},
		{http.MethodHead, task, []string{a.bearer()}},
		{http.MethodGet, a.Base + "/nothing", nil},
		{http.MethodOptions, a.Base + "/tasks", []string{"Origin: https://a.example", "Access-Control-Request-Method: POST"}},
		{http.MethodPost, a.Base + "/tasks", []string{jsonType}}, // 401
		{http.MethodPost, task + "/cancel", []string{a.bearer(), jsonType}},
		{http.MethodGet, a.Base + "/tasks/ws", []string{a.bearer()}},
		{http.MethodGet, "/health", nil},
		{http.MethodPost, "/", nil},
	}
	hidden := framings(a.head(http.MethodGet, "/health"))
	for ctx.Err() == nil {
		side(len(routes)*len(hidden), func(i int) {
			r, framed := routes[i/len(hidden)], hidden[i%len(hidden)]
			head := a.head(r.method, r.path, slices.Concat(framed.fields, r.fields)...)
			if n := a.answersTo(ctx, head, framed.body); n > 1 {
				a.won("%s %s with a body %s: %d answers to one request", r.method, r.path, framed.name, n)
			}
		})
	}
}

type framing struct {
	name   string
	fields []string
	body   string
}

// framings hide inner in bodies, each in another way.
func framings(inner string) []framing {
	padded := strings.Repeat("x", 8192) + inner
	chunked := fmt.Sprintf("2000\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", strings.Repeat("x", 8192), len(inner), inner)
	return []framing{
		{"with a length", []string{length(len(padded))}, padded},
		{"with a length, short", []string{length(len(inner))}, inner},
		{"in chunks", []string{"Transfer-Encoding: chunked"}, chunked},
		{"in chunks with trailers", []string{"Transfer-Encoding: chunked"}, strings.TrimSuffix(chunked, "\r\n") + "X-A: b\r\n\r\n"},
		{"with a length and chunks", []string{length(5), "Transfer-Encoding: chunked"}, "0\r\n\r\n" + inner},
		{"with two lengths", []string{length(0), length(len(inner))}, inner},
		{"that is expected", []string{length(len(padded)), "Expect: 100-continue"}, padded},
		{"of a form with more in it", []string{length(len("--b--\r\n") + len(padded)), "Content-Type: multipart/form-data; boundary=b"}, "--b--\r\n" + padded},
	}
}

// answersTo sends a request on a connection of its own and counts the answers.
func (a *attacker) answersTo(ctx context.Context, head, body string) int {
	conn, err := a.dial(ctx, false)
	if err != nil {
		a.answered(0)
		return 0
	}
	defer func() { _ = conn.Close() }()
	a.sent(1)
	_, err = io.WriteString(conn, head+body)
	if err != nil {
		a.answered(0)
		return 0
	}
	// An answer to what was smuggled comes at once; a busy server gets a second.
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	said, _ := io.ReadAll(io.LimitReader(conn, mib))
	answers := strings.Count(string(said), "HTTP/1.1 ") - strings.Count(string(said), "HTTP/1.1 100 ")
	if answers > 0 {
		a.answered(readStatus(strings.NewReader(string(said))))
	} else {
		a.answered(0)
	}
	return answers
}
