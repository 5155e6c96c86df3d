package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func TestAuthenticate(t *testing.T) {
	for _, c := range []struct {
		name, header, query string
		want                string // subject, or "" for 401
		expires             int64
	}{
		{name: "header", header: "Bearer alice", want: "alice"},
		{name: "scheme in any case", header: "bearer alice", want: "alice"},
		{name: "query", query: "?access_token=alice", want: "alice"},
		{name: "escaped query", query: "?access_token=Zo%C3%AB%3Bexp%3D4102444800", want: "Zoë", expires: 4102444800},
		{name: "header wins", header: "Bearer alice", query: "?access_token=bob", want: "alice"},
		{name: "another scheme is nobody's business", header: "Basic eDp5", query: "?access_token=bob", want: "bob"},
		{name: "expiry", header: "Bearer alice;exp=4102444800", want: "alice", expires: 4102444800},
		{name: "in the past, for the bridge to refuse", header: "Bearer alice;exp=1", want: "alice", expires: 1},

		{name: "neither"},
		{name: "no subject", header: "Bearer "},
		{name: "no subject but an expiry", header: "Bearer ;exp=4102444800"},
		{name: "an empty header is not the query's", header: "Bearer ;", query: "?access_token=bob"},
		{name: "another attribute", header: "Bearer alice;admin=1"},
		{name: "no number", header: "Bearer alice;exp=soon"},
		{name: "a fraction", header: "Bearer alice;exp=1.5"},
		{name: "zero", header: "Bearer alice;exp=0"},
		{name: "beyond the year 9999", header: "Bearer alice;exp=9223372036854775807"},
		{name: "two", header: "Bearer alice;exp=1;exp=2"},
		{name: "not UTF-8", query: "?access_token=%ff"},
		{name: "a line end", query: "?access_token=alice%0abob"},
		{name: "too long", header: "Bearer " + strings.Repeat("a", maxSubject+1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got engine.AuthContext
			var err error
			app := fiber.New()
			app.Get("/", func(ctx *fiber.Ctx) error {
				got, err = authenticate(ctx)
				return nil
			})
			request := httptest.NewRequest(http.MethodGet, "/"+c.query, nil)
			if c.header != "" {
				request.Header.Set("Authorization", c.header)
			}
			response, testErr := app.Test(request)
			if testErr != nil {
				t.Fatal(testErr)
			}
			_ = response.Body.Close()
			if c.want == "" {
				if engine.CodeOf(err) != engine.CodeAuthentication {
					t.Fatalf("subject %q, error %v", got.Subject, err)
				}
				return
			}
			if err != nil || got.Subject != c.want {
				t.Fatalf("subject %q, error %v; want %q", got.Subject, err, c.want)
			}
			want := time.Time{}
			if c.expires != 0 {
				want = time.Unix(c.expires, 0)
			}
			if !got.ExpiresAt.Equal(want) {
				t.Errorf("expires %v, want %v", got.ExpiresAt, want)
			}
		})
	}
}

func FuzzParseSubject(f *testing.F) {
	for _, seed := range []string{"alice", "alice;exp=4102444800", ";", "a;exp=", "a;exp=-1", "\xff", "a\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		auth, err := parseSubject(token)
		if err != nil {
			if engine.CodeOf(err) != engine.CodeAuthentication {
				t.Fatalf("%q: %v", token, err)
			}
			return
		}
		if auth.Subject == "" || len(auth.Subject) > maxSubject || !utf8.ValidString(auth.Subject) ||
			strings.ContainsAny(auth.Subject, ";\r\n\x00") || !strings.HasPrefix(token, auth.Subject) {
			t.Fatalf("%q gave the subject %q", token, auth.Subject)
		}
		if strings.Contains(token, ";") == auth.ExpiresAt.IsZero() {
			t.Fatalf("%q expires %v", token, auth.ExpiresAt)
		}
	})
}
