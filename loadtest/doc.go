// Loadtest drives a server that speaks the TaskBridge protocol with thousands
// of real subscribers on real sockets, checks every event of each of them, and
// measures. It starts the demo host itself, or takes a -target.
//
//	go run ./loadtest -scenario fan-out -subscribers 2000 -rate 500
//	go run ./loadtest -h
//
// Linux only. docs/loadtest.md says what the scenarios do and how to read what
// comes out.
package main
