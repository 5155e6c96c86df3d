package socket

import (
	"net"
	"reflect"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/accept"
)

const fasthttpPath = "github.com/valyala/fasthttp"

// plainTCP returns the connection whose descriptor can be taken over, or nil.
// Only what is known to add nothing to the bytes is looked through.
func plainTCP(conn net.Conn) *net.TCPConn {
	for range 3 { // hijacked, counted, TCP
		switch c := conn.(type) {
		case *net.TCPConn:
			return c
		case *accept.Conn:
			return c.TCPConn
		}
		if conn = insideFasthttp(conn); conn == nil {
			return nil
		}
	}
	return nil
}

// Accepted returns the accept.Conn inside conn, nil if there is none.
func Accepted(conn net.Conn) *accept.Conn {
	for range 8 {
		if conn == nil {
			break
		}
		if c, ok := conn.(*accept.Conn); ok {
			return c
		}
		conn = inside(conn)
	}
	return nil
}

// innermost returns the connection that conn is made of, as far as it can be
// seen: below fasthttp's wrappers, and below TLS.
func innermost(conn net.Conn) net.Conn {
	for range 8 {
		inner := inside(conn)
		if inner == nil {
			break
		}
		conn = inner
	}
	return conn
}

// inside returns the connection that conn wraps, nil if there is none or it cannot be
// reached.
func inside(conn net.Conn) net.Conn {
	if c, ok := conn.(*accept.Conn); ok {
		return c.TCPConn
	}
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn()
	}
	return insideFasthttp(conn)
}

// insideFasthttp returns what one of fasthttp's two plain wrappers holds, nil
// for anything else. Both types are unexported: hijackConn has a method for
// it, perIPConn only its exported embedded field.
func insideFasthttp(conn net.Conn) net.Conn {
	t := reflect.TypeOf(conn)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().PkgPath() != fasthttpPath {
		return nil
	}
	switch t.Elem().Name() {
	case "hijackConn":
		if over, ok := conn.(interface{ UnsafeConn() net.Conn }); ok {
			return over.UnsafeConn()
		}
	case "perIPConn":
		if field := reflect.ValueOf(conn).Elem().FieldByName("Conn"); field.IsValid() && field.CanInterface() {
			inner, _ := field.Interface().(net.Conn)
			return inner
		}
	}
	return nil
}
