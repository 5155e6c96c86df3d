// Package redistest starts real Redis servers for tests: one server, a Cluster
// of three primaries, or a primary with a replica under three Sentinels, each
// on free loopback ports with its data in t.TempDir.
//
// Everything is stopped when the test ends, also if its process dies (Linux).
// Servers can be killed, restarted, paused, cut off, failed over and have their
// slots moved, which is what the package is for. What goes wrong fails the
// test; nothing is ever skipped.
//
// The server is redis-server from PATH, or what the environment variable
// REDISTEST_SERVER names: any Redis or Valkey from 6.2 on. If there is none,
// root on Debian gets it from apt-get; anybody else gets told.
//
// Methods may be called from any goroutine, but those that fail the test only
// from the test's own.
package redistest
