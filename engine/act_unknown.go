package engine

// ErrUnknownSuspension is what Act returns to those who may answer the task for
// a suspension that the task does not have. Its code is TASK_NOT_FOUND; compare
// with ==, since errors.Is compares codes.
var ErrUnknownSuspension = errUnknownSuspension
