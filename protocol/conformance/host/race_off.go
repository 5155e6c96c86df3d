//go:build !race

package host

// race says that the tests run under the race detector; so does the host then.
const race = false
