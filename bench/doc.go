// Package bench measures the hot path, and what the library does against what
// one would do without it. There is nothing in it but tests.
//
// The benchmarks are Go's own. The comparisons, TestTail, TestBurst and
// TestIdle, run both sides in one run on one machine against a real server, print
// a table and fail if a target is missed:
//
//	go test ./bench -run 'TestTail|TestBurst|TestIdle' -compare -v
//
// Without -compare they run in a short form that checks that each side stores
// and delivers everything, and says nothing of times.
package bench
