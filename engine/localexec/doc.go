// Package localexec runs tasks in this process: typed handlers, a bounded
// number of them at once, a bounded queue before them.
//
// What becomes of a handler's return:
//
//	(out, nil)                        TASK_COMPLETED {"result": out}
//	Fail(code, message, retryable)    TASK_FAILED with just that
//	any error with TaskFailed()       TASK_FAILED with what that gives
//	*engine.Error                     TASK_FAILED with its code and message
//	engine.ErrSuspensionExpired       TASK_FAILED SUSPENSION_EXPIRED
//	any other error                   TASK_FAILED TASK_EXECUTION_FAILED; its text goes to the log only
//	a panic, runtime.Goexit           TASK_FAILED HANDLER_PANIC; the stack goes to the log
//	an error after a cancel request   TASK_CANCELLED with the request's reason
//	an error after its Timeout        TASK_FAILED TASK_TIMEOUT, retryable
//	an error after Shutdown's time    TASK_FAILED EXECUTOR_SHUTDOWN, retryable
//	the same, if Restartable          nothing: another process continues the task
//	anything after engine.ErrLeaseLost  nothing: the task is not this worker's any more
//
// A handler that emitted a terminal event itself has the last word.
package localexec
