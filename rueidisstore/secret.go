package rueidisstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"

	"github.com/redis/rueidis"
)

// keepSecret finds out the secret that task ids are derived with, or makes one
// if there is none, and lets it live for longer than any task. It also checks
// the schema of the keys. New calls it, and maintenance now and then: a failover
// may have lost the one that this node began with.
func (s *Store) keepSecret(ctx context.Context) error {
	ctx, done := s.bound(ctx)
	defer done()
	schema, err := s.firstOf(ctx, s.keys.schema(), schemaVersion)
	if err != nil {
		return err
	}
	if schema != schemaVersion {
		return damaged("check the schema", fmt.Errorf("the keys under %q have schema version %q; this library knows %s",
			s.cfg.Prefix, schema, schemaVersion))
	}
	if given := s.cfg.IDSecret; len(given) > 0 {
		s.secret.Store(&given)
		return nil
	}
	mine := s.secret.Load()
	if mine == nil {
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails, see its documentation
		mine = &fresh
	} else if len(*mine) < minSecret {
		return nil
	}
	there, err := s.firstOf(ctx, s.keys.secret(), string(*mine))
	if err != nil {
		return err
	}
	if len(there) < minSecret {
		return damaged("read the secret", fmt.Errorf("%s holds %d bytes, want at least %d", s.keys.secret(), len(there), minSecret))
	}
	if before, now := s.secret.Load(), []byte(there); before == nil || !bytes.Equal(*before, now) {
		if before != nil {
			s.cfg.Logger.Warn("rueidisstore: Redis has another secret than before; " +
				"for a while a repeated create may make a second task")
		}
		s.secret.Store(&now)
	}
	return nil
}

// firstOf gives what the first node wrote to key: value, if that is this one.
func (s *Store) firstOf(ctx context.Context, key, value string) (string, error) {
	ttl := s.cfg.indexTTL()
	answers := s.client.DoMulti(ctx,
		s.client.B().Set().Key(key).Value(value).Nx().Px(ttl).Build(),
		s.client.B().Get().Key(key).Build(),
		s.client.B().Pexpire().Key(key).Milliseconds(ttl.Milliseconds()).Build(),
	)
	for _, a := range answers {
		if err := a.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return "", classify("read "+key, err)
		}
	}
	there, err := answers[1].ToString()
	return there, classify("read "+key, err)
}
