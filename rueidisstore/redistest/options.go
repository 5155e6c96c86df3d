package redistest

import "fmt"

// Option changes how a server is set up.
type Option func(*setup)

type setup struct {
	lines  []string
	secure bool
}

// Config adds lines to the server's configuration file; the last one wins.
func Config(lines ...string) Option {
	return func(s *setup) { s.lines = append(s.lines, lines...) }
}

// AppendOnly keeps the data through a crash: fsync is always, everysec or no.
func AppendOnly(fsync string) Option {
	return Config("appendonly yes", "appendfsync "+fsync)
}

// MaxMemory bounds the data, "8mb"; beyond it the server does what policy
// says, noeviction or allkeys-lru.
func MaxMemory(size, policy string) Option {
	return Config("maxmemory "+size, "maxmemory-policy "+policy)
}

// Password is what the default user needs.
func Password(password string) Option { return Config("requirepass " + password) }

// User adds an ACL user, with rules as in ACL SETUSER: "on >secret ~* +@all".
// The user "default" can be changed in the same way.
func User(name, rules string) Option {
	return Config(fmt.Sprintf("user %s %s", name, rules))
}

// TLS makes the server speak TLS only; see Instance.TLSConfig.
func TLS() Option { return func(s *setup) { s.secure = true } }
