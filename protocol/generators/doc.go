// Package generators holds no code, only tests: they generate clients from the
// OpenAPI document with generators that people use, compile a program with
// each client, and run it against a host. It is a module of its own, so that
// the generators are no dependency of the library.
package generators
