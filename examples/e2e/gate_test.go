package e2e

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// gate stands between a browser and a host: it notes what is asked and
// answered, and can cut every connection as a broken network does.
type gate struct {
	url string

	mu       sync.Mutex
	shut     bool
	lose     string // the next answer on a path with this end gets lost
	conns    map[net.Conn]struct{}
	answered []exchange
}

// exchange is one request and the status of its answer.
type exchange struct {
	path, origin, lastEventID string
	status                    int
}

func startGate(t *testing.T, target string) *gate {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{url: "http://" + listener.Addr().String(), conns: map[net.Conn]struct{}{}}
	transport := &http.Transport{DisableKeepAlives: true}
	server := &http.Server{
		Handler: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(to)
				r.Out.Host = r.In.Host
			},
			Transport:      transport,
			FlushInterval:  -1,
			ModifyResponse: g.note,
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				w.WriteHeader(http.StatusBadGateway)
			},
			ErrorLog: log.New(io.Discard, "", 0), // cuts are what this is for
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(gateListener{listener, g}); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("gate: %v", err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		g.sever()
		<-served
	})
	return g
}

// loseNext cuts the browser's connections instead of giving it the next answer
// on a path with this end.
func (g *gate) loseNext(pathEnd string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lose = pathEnd
}

func (g *gate) note(response *http.Response) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lose != "" && strings.HasSuffix(response.Request.URL.Path, g.lose) {
		g.lose = ""
		defer g.cut()
	}
	g.answered = append(g.answered, exchange{
		path:        response.Request.URL.Path,
		origin:      response.Request.Header.Get("Origin"),
		lastEventID: response.Request.Header.Get("Last-Event-ID"),
		status:      response.StatusCode,
	})
	return nil
}

// exchanges returns what was answered on paths with this end, oldest first.
func (g *gate) exchanges(pathEnd string) []exchange {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []exchange
	for _, e := range g.answered {
		if strings.HasSuffix(e.path, pathEnd) {
			found = append(found, e)
		}
	}
	return found
}

// shutDown severs, and takes no connection until open is called.
func (g *gate) shutDown() {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	g.sever()
}

func (g *gate) open() {
	g.mu.Lock()
	g.shut = false
	g.mu.Unlock()
}

// sever resets every connection of the browser's side.
func (g *gate) sever() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut()
}

// cut is called with the lock held.
func (g *gate) cut() {
	for conn := range g.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	clear(g.conns)
}

type gateListener struct {
	net.Listener
	gate *gate
}

func (l gateListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.gate.mu.Lock()
		shut := l.gate.shut
		if !shut {
			l.gate.conns[conn] = struct{}{}
		}
		l.gate.mu.Unlock()
		if !shut {
			return conn, nil
		}
		_ = conn.Close()
	}
}
