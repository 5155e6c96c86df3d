package rueidisstore

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/fnv"
	"strconv"
)

// schemaVersion is in every key's name: libraries of different schemas can
// share a Redis, and never misread each other's keys.
const schemaVersion = "1"

// A task id is a tag, derived from owner and client request id, and an
// incarnation, chosen at random when the task is created. All keys of a task
// have the tag as their hash tag, so that creating it is one script on one
// slot; the incarnation tells a task from one that was erased before it.
const (
	tagLength         = 24 // 120 bits
	incarnationLength = 8  // 40 bits
	idLength          = tagLength + incarnationLength
)

// minSecret is the least that guessing is not worth while against.
const minSecret = 16

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// deriveTag names the task that owner created with clientRequestID.
func deriveTag(secret []byte, owner, clientRequestID string) string {
	mac := hmac.New(sha256.New, secret)
	// The owner's length comes first: no two pairs give the same bytes.
	mac.Write(binary.AppendUvarint(nil, uint64(len(owner))))
	mac.Write([]byte(owner))
	mac.Write([]byte(clientRequestID))
	return idEncoding.EncodeToString(mac.Sum(nil))[:tagLength]
}

func newIncarnation() string {
	var b [incarnationLength * 5 / 8]byte
	_, _ = rand.Read(b[:]) // never fails, see its documentation
	return idEncoding.EncodeToString(b[:])
}

// validID reports whether id can be one of ours. What cannot be is unknown,
// and must not become part of a key.
func validID(id string) bool { return len(id) == idLength && inAlphabet(id) }

func inAlphabet(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

func tagOf(id string) string         { return id[:tagLength] }
func incarnationOf(id string) string { return id[tagLength:] }

// keyspace names keys. Its methods take valid ids and tags.
type keyspace struct{ prefix, versioned string }

func newKeyspace(prefix string) keyspace {
	return keyspace{prefix: prefix, versioned: prefix + ":" + schemaVersion + ":"}
}

// task is a HASH, the record: written on changes of status, cached by clients.
func (k keyspace) task(id string) string { return k.record(tagOf(id)) }

func (k keyspace) record(tag string) string { return k.versioned + "{" + tag + "}:task" }

// log is a STREAM with one entry for each batch; see codec.go.
func (k keyspace) log(id string) string {
	return k.versioned + "{" + tagOf(id) + "}:" + incarnationOf(id) + ":log"
}

// state is a STRING of what every append changes and nobody caches; see
// append.lua.
func (k keyspace) state(id string) string {
	return k.versioned + "{" + tagOf(id) + "}:" + incarnationOf(id) + ":state"
}

// taskKeys is how many keys every task has.
const taskKeys = 4

// ofTask are the keys of a task from its creation on, in the order that scripts
// take them.
func (k keyspace) ofTask(id string) []string {
	return []string{k.task(id), k.log(id), k.state(id), k.hold(id)}
}

// dueShards spreads the due index over slots.
const dueShards = 16

// due is a ZSET: ids of open tasks, by the time (ms) to look at them next.
func (k keyspace) due(shard int) string { return k.versioned + "due:" + strconv.Itoa(shard) }

// lease is held by the node that works the shard off.
func (k keyspace) lease(shard int) string { return k.due(shard) + ":lease" }

// proof is the key that is written to find out whether Redis takes writes; see
// proof.go.
func (k keyspace) proof(shard int) string { return k.versioned + "proof:" + strconv.Itoa(shard) }

func shardOf(taskID string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(taskID))
	return int(h.Sum32() % dueShards)
}

// secret keys deriveTag, unless the config does.
func (k keyspace) secret() string { return k.versioned + "secret" }

// schema names the version of the keys under the prefix.
func (k keyspace) schema() string { return k.prefix + ":schema" }
