package fiberbridge

import (
	"bufio"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestInvalidHandshake(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	for _, tt := range []struct {
		name    string
		keys    []string
		headers map[string]string
		valid   bool
	}{
		{name: "the RFC's", keys: []string{key}, valid: true},
		{name: "a length of 0", keys: []string{key}, headers: map[string]string{"Content-Length": "0"}, valid: true},
		{name: "no key"},
		{name: "an empty key", keys: []string{""}},
		{name: "two keys", keys: []string{key, key}},
		{name: "15 bytes", keys: []string{"dGhlIHNhbXBsZSBub25j"}},
		{name: "17 bytes", keys: []string{"dGhlIHNhbXBsZSBub25jZWU="}},
		{name: "no base64", keys: []string{"dGhlIHNhbXBsZSBub25jZQ=!"}},
		{name: "no padding", keys: []string{"dGhlIHNhbXBsZSBub25jZQ"}},
		{name: "a body", keys: []string{key}, headers: map[string]string{"Content-Length": "5"}},
		{name: "a chunked body", keys: []string{key}, headers: map[string]string{"Transfer-Encoding": "chunked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := "GET / HTTP/1.1\r\nHost: x\r\n"
			for _, k := range tt.keys {
				raw += "Sec-WebSocket-Key: " + k + "\r\n"
			}
			for k, v := range tt.headers {
				raw += k + ": " + v + "\r\n"
			}
			if why := invalidHandshake(parseHeader(t, raw+"\r\n")); (why == "") != tt.valid {
				t.Errorf("%q", why)
			}
		})
	}
}

func parseHeader(t *testing.T, raw string) *fasthttp.RequestHeader {
	t.Helper()
	var h fasthttp.RequestHeader
	if err := h.Read(bufio.NewReader(strings.NewReader(raw))); err != nil {
		t.Fatal(err)
	}
	return &h
}
