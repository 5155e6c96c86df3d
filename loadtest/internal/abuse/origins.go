package abuse

import (
	"context"
	"crypto/rand"
	"net/http"
)

// crossOrigin does what a page of another site can do without asking: forms,
// plain text and empty bodies, with a credential that is not in Authorization,
// as a cookie would be.
func crossOrigin(ctx context.Context, a *attacker) {
	id := a.prepare(ctx, "stall", "{}")
	client := a.client(4)
	as := "?access_token=" + a.Subject
	form := "--b\r\nContent-Disposition: form-data; name=\"clientRequestId\"\r\n\r\n" + rand.Text() +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"taskType\"\r\n\r\ngreet\r\n--b--\r\n"
	for ctx.Err() == nil {
		for _, origin := range [][]string{
			{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"},
			{"Origin: https://evil.example"},
			{"Origin: null"},
			{"Sec-Fetch-Site: same-site"},
			{"Origin: http://sibling." + a.Addr, "Sec-Fetch-Site: same-site"},
		} {
			for _, r := range []struct{ path, contentType, body string }{
				{"/tasks", "multipart/form-data; boundary=b", form},
				{"/tasks", "application/json", createBody(rand.Text(), "greet", "{}")},
				{"/tasks", "text/plain", createBody(rand.Text(), "greet", "{}")},
				{"/tasks/" + id + "/cancel", "application/x-www-form-urlencoded", ""},
				{"/tasks/" + id + "/actions", "text/plain", "{}"},
			} {
				fields := append([]string{"Content-Type: " + r.contentType}, origin...)
				status, _ := a.request(ctx, client, http.MethodPost, a.Base+r.path+as, r.body, fields...)
				if status != 0 && status != http.StatusForbidden {
					a.won("%s of %s by a page of another site (%q): status %d", r.contentType, r.path, origin, status)
				}
			}
		}
	}
	a.end(ctx, client, id)
}
