package fiberbridge

import "testing"

// Only undici's fetch, straight from it, gets a stream whose head does not say
// Connection: close.
func TestSSEHeadForCuts(t *testing.T) {
	h := startHost(t, hostSetup{})
	task := h.task(t).Task().ID
	full := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.MaxPerSubject = 1 }})
	fullTask := full.task(t).Task().ID
	full.get(t, ssePath(fullTask)).next(t)
	undici := []string{"Connection: keep-alive", "Accept-Language: *", "Sec-Fetch-Mode: cors"}
	for _, tc := range []struct {
		name      string
		lines     []string
		proto     string
		keepAlive bool
	}{
		{"undici", undici, "HTTP/1.1", true},
		{"undici, in small letters", []string{"connection: Keep-Alive", "sec-fetch-mode: cors"}, "HTTP/1.1", true},
		{"through a proxy", undici[1:], "HTTP/1.1", false},
		{"through a proxy that closes", append([]string{"Connection: close"}, undici[1:]...), "HTTP/1.1", false},
		{"HTTP/1.0", undici, "HTTP/1.0", false},
		{"a browser", append([]string{"Sec-Fetch-Site: same-origin"}, undici...), "HTTP/1.1", false},
		{"Go", nil, "HTTP/1.1", false},
		{"httpx, OkHttp", undici[:1], "HTTP/1.1", false},
	} {
		for kind, c := range map[string]*sseClient{
			"stream":  h.do(t, "GET", ssePath(task), tc.proto, tc.lines...),
			"refusal": full.do(t, "GET", ssePath(fullTask), tc.proto, append([]string{"Accept: text/event-stream"}, tc.lines...)...),
		} {
			want, hint := "close", ""
			if tc.keepAlive {
				want, hint = "keep-alive", "timeout=0"
			}
			if c.status != 200 || c.header.Get("Connection") != want || c.header.Get("Keep-Alive") != hint {
				t.Errorf("%s, %s: %d %v", tc.name, kind, c.status, c.header)
			}
		}
	}
}
