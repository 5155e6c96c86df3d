// Package enginetest holds the suites that stores and executors must pass, and
// an executor for hosts' own tests whose tasks the test drives.
//
//	func TestStore(t *testing.T) {
//		enginetest.TestStore(t, func(t *testing.T) engine.Store { ... }, enginetest.StoreOptions{})
//	}
//
// It belongs into tests only.
package enginetest
