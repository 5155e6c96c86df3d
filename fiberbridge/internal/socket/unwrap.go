package socket

import (
	"net"
	"reflect"
)

const fasthttpPath = "github.com/valyala/fasthttp"

// plainTCP returns the connection whose descriptor can be taken over, or nil.
// Only what is known to add nothing to the bytes is looked through.
func plainTCP(conn net.Conn) *net.TCPConn {
	for range 3 { // hijacked, counted, TCP
		if tcp, ok := conn.(*net.TCPConn); ok {
			return tcp
		}
		if conn = insideFasthttp(conn); conn == nil {
			return nil
		}
	}
	return nil
}

// innermost returns the connection that conn is made of, as far as it can be
// seen: below fasthttp's wrappers, and below TLS.
func innermost(conn net.Conn) net.Conn {
	for range 8 {
		var inner net.Conn
		if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
			inner = over.NetConn()
		} else {
			inner = insideFasthttp(conn)
		}
		if inner == nil {
			break
		}
		conn = inner
	}
	return conn
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
