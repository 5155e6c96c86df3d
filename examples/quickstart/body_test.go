package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// A body that is announced as too large is refused before any of it is here,
// and what follows it is no request.
func TestOversizedBody(t *testing.T) {
	d := serve(t)
	for _, kind := range []string{"application/json", "multipart/form-data; boundary=b"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = fmt.Fprintf(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"+
			"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", kind, bodyLimit+1)
		if err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(conn)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusRequestEntityTooLarge || !response.Close || response.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %s %v", kind, response.Status, response.Header)
		}
		body := make([]byte, response.ContentLength)
		if _, err := reader.Read(body); err != nil || !strings.Contains(string(body), "REQUEST_TOO_LARGE") {
			t.Errorf("%s, %v", body, err)
		}
		if _, err := http.ReadResponse(reader, nil); err == nil {
			t.Error("the body was taken for a request")
		}
		_ = response.Body.Close()
		_ = conn.Close()
	}
}

func TestOnHeader(t *testing.T) {
	for _, tt := range []struct {
		method string
		length int
		want   time.Duration
	}{
		{"GET", 0, 0}, {"GET", 100, 0}, {"POST", 0, 0}, {"POST", 100, bodyTimeout}, {"POST", -1, bodyTimeout}, {"POST", bodyLimit, bodyTimeout}, {"POST", bodyLimit + 1, 0},
	} {
		var h fasthttp.RequestHeader
		h.SetMethod(tt.method)
		h.SetContentLength(tt.length)
		h.Set(oversized, "forged")
		config := onHeader(&h)
		if large := tt.length > bodyLimit; config.ReadTimeout != tt.want || (len(h.Peek(oversized)) > 0) != large || h.ConnectionClose() != large {
			t.Errorf("%+v: %+v", tt, config)
		}
	}
}

// What is refused below all middleware carries an id, too.
func TestRefusalsOfFasthttpHaveARequestID(t *testing.T) {
	d := serve(t)
	for what, request := range map[string]string{
		"a header that is too large": "GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", 10<<10) + "\r\n\r\n",
		"no HTTP":                    "rubbish\r\n\r\n",
		"a length that is none":      "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(what, err)
		}
		if response.StatusCode < 400 || response.StatusCode >= 500 || response.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %s %v", what, response.Status, response.Header)
		}
		_ = response.Body.Close()
		_ = conn.Close()
	}
}
