package fanout

// queue is a first-in first-out that reuses its memory.
type queue[T any] struct {
	items []T
	first int
}

func (q *queue[T]) len() int { return len(q.items) - q.first }

func (q *queue[T]) push(v T) {
	if q.first > 32 && q.first > len(q.items)/2 {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// peek returns the oldest item; there must be one.
func (q *queue[T]) peek() T { return q.items[q.first] }

// pop removes the oldest item; there must be one.
func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.first]
	q.items[q.first] = zero
	q.first++
	if q.first == len(q.items) {
		q.items, q.first = q.items[:0], 0
		if cap(q.items) > 1<<12 {
			q.items = nil
		}
	}
	return v
}
