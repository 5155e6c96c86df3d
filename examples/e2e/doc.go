// Package e2e holds no code, only tests: they drive the demo host's page in a
// real Chromium, its streams through a real nginx, and the loops of
// docs/clients.md on every platform that they are written for. It is a module of its
// own, so that a browser driver is no dependency of the library.
//
// nginx-recommended.conf and haproxy-recommended.cfg are the proxy
// configurations that the project recommends; the tests run them as they are.
package e2e
