package jsonschema

import (
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"sync"
)

// cache keeps compiled schemas by their text, and those that do not compile
// with the reason. A schema that is dropped while it is in use stays usable.
type cache struct {
	size int

	mu      sync.Mutex
	entries map[[sha256.Size]byte]*list.Element
	recent  list.List // of *entry, used last first
}

type entry struct {
	key  [sha256.Size]byte
	once sync.Once
	// schema and err are written in once.
	schema *compiledSchema
	err    error
}

func newCache(size int) *cache {
	return &cache{size: size, entries: map[[sha256.Size]byte]*list.Element{}}
}

func (c *cache) get(schema json.RawMessage) (*compiledSchema, error) {
	e := c.entry(sha256.Sum256(schema))
	e.once.Do(func() { e.schema, e.err = compile(schema) })
	return e.schema, e.err
}

func (c *cache) entry(key [sha256.Size]byte) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.entries[key]; ok {
		c.recent.MoveToFront(at)
		return at.Value.(*entry)
	}
	e := &entry{key: key}
	c.entries[key] = c.recent.PushFront(e)
	if c.recent.Len() > c.size {
		oldest := c.recent.Remove(c.recent.Back()).(*entry)
		delete(c.entries, oldest.key)
	}
	return e
}
