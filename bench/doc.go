// Package bench measures the hot path, and what the library does against what
// one would do without it. There is nothing in it but tests.
//
// The benchmarks are Go's own, one for each stage: Encode, Append, Emit,
// Stream, Tail, Ring, Flush, SSE, WebSocket, ManyTasks, Replay, Poll, EndToEnd.
// Those that write to sockets have real ones, read by a process of its own, and
// a bare write(2) loop over the same sockets in the same run as their
// yardstick. docs/benchmarks.md says what the figures mean, and how make bench
// compares two revisions.
//
// The comparisons, TestTail, TestBurst and TestIdle, run both sides in one run
// on one machine against a real server, print a table and fail if a target is
// missed:
//
//	make bench-redis
//
// Without -compare they run in a short form that checks that each side stores
// and delivers everything, and says nothing of times.
package bench
