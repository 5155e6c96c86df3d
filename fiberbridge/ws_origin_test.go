package fiberbridge

import "testing"

func TestWSOrigin(t *testing.T) {
	listed := []string{"https://app.example.com", "http://localhost:3000"}
	for _, tc := range []struct {
		origin, host string
		want         bool
	}{
		{"", "example.com", true},
		{"https://example.com", "example.com", true},
		{"https://EXAMPLE.com", "example.COM", true},
		{"https://example.com", "example.com:443", true},
		{"https://example.com:443", "example.com", true},
		{"http://example.com", "example.com:80", true},
		{"http://127.0.0.1:8080", "127.0.0.1:8080", true},
		{"http://[::1]:8080", "[::1]:8080", true},
		{"https://[::1]", "[::1]", true},
		{"https://example.com:8443", "example.com", false},
		{"https://example.com", "example.com:8443", false},
		{"http://example.com:443", "example.com", false},
		{"https://evil.com", "example.com", false},
		{"https://example.com.evil.com", "example.com", false},
		{"https://example.com@evil.com", "example.com", false},
		{"https://evil.com/example.com", "example.com", false},
		{"https://example.com/", "example.com", false},
		{"https://example.com?x", "example.com", false},
		{"null", "example.com", false},
		{"null", "null", false},
		{"file://", "", false},
		{"file://example.com", "example.com", false},
		{"https://", "", false},
		{"https://example.com", "", false},
		{"://", "example.com", false},
		{"https://app.example.com", "example.com", true},
		{"http://app.example.com", "example.com", false},
		{"http://localhost:3000", "127.0.0.1:8080", true},
		{"http://localhost:3001", "127.0.0.1:8080", false},
	} {
		if got := originAllowed(tc.origin, tc.host, listed); got != tc.want {
			t.Errorf("origin %q on host %q: %v", tc.origin, tc.host, got)
		}
	}
	if !originAllowed("null", "example.com", []string{"*"}) {
		t.Error("* does not allow all")
	}
}
