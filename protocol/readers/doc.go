// Package readers tries the SSE transport with readers and connection pools that
// others wrote: what they make of comments, of a cut, and of a stream's end.
package readers
