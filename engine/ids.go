package engine

// The length of a task id. The alphabet is [a-z0-9].
const (
	minTaskID = 16
	maxTaskID = 64
)

// validTaskID reports whether id has the form of a task id. An id of another
// form cannot name a task, so no store is asked about it; and what passes can
// stand in a URL, a key, a frame and a log line as it is.
func validTaskID(id string) bool {
	if len(id) < minTaskID || len(id) > maxTaskID {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
