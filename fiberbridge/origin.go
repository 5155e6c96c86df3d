package fiberbridge

import (
	"net"
	"net/url"
	"strings"
)

// originsAllowed is originAllowed for all Origin headers of a request. Browsers
// send one at most; of several, somebody on the way may have judged another
// than we would.
func originsAllowed(origins []string, host string, listed []string) bool {
	switch len(origins) {
	case 0:
		return true
	case 1:
		return originAllowed(origins[0], host, listed)
	}
	return false
}

// originAllowed reports whether a page of origin may open a WebSocket on host.
// No Origin is no browser. Otherwise it must be the same host and port as the
// client named in its request, or be listed; an opaque origin ("null") is
// never the same. The scheme is not compared: behind a proxy that ends TLS,
// ours is not the client's, so a port left out may stand for 80 or 443.
func originAllowed(origin, host string, listed []string) bool {
	if origin == "" {
		return true
	}
	for _, o := range listed {
		if o == "*" || strings.EqualFold(strings.TrimSuffix(o, "/"), origin) {
			return true
		}
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	var standard string
	switch strings.ToLower(u.Scheme) {
	case "http":
		standard = "80"
	case "https":
		standard = "443"
	default:
		return false
	}
	wantHost, wantPort := splitHostPort(u.Host, standard)
	gotHost, gotPort := splitHostPort(host, standard)
	return gotHost != "" && wantPort == gotPort && strings.EqualFold(wantHost, gotHost)
}

// splitHostPort is net.SplitHostPort with a port for those that name none.
func splitHostPort(hostport, standard string) (host, port string) {
	hostport = strings.TrimSpace(hostport)
	if h, p, err := net.SplitHostPort(hostport); err == nil {
		if p == "" {
			p = standard
		}
		return h, p
	}
	return strings.Trim(hostport, "[]"), standard
}
