package fiberbridge

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// patience bounds every wait of these tests. Only a test that fails takes it all.
const patience = 3 * time.Minute

// streamHost is a real app on a real listener, with tasks that do what the
// test says.
type streamHost struct {
	app    *fiber.App
	bridge *Bridge
	eng    *engine.Engine
	exec   *enginetest.Executor
	dial   func() (net.Conn, error)
	addr   string
	log    *logBuffer
	tasks  atomic.Int64
}

// hostSetup changes what startHost builds.
type hostSetup struct {
	bridge func(*Config)
	engine func(*engine.Config)
	app    fiber.Config
	store  memstore.Config
	// wrap puts something in front of the store.
	wrap    func(engine.Store) engine.Store
	deliver fanout.Config
	// rollUp is engine.Config.RollUp.
	rollUp []string
	// owners defaults to engine.OwnerOnly.
	owners  engine.OwnershipPolicy
	metrics engine.MetricsSink
	// before is middleware in front of the bridge.
	before []fiber.Handler
	// server changes the app's fasthttp server.
	server func(app *fiber.App)
	// routes adds routes of the host's own.
	routes func(app *fiber.App, b *Bridge)
	// over is "tcp" (the default), "tls" or "memory".
	over string
	// logger takes what is logged; by default errors fail the test.
	logger *slog.Logger
	// shut says that the test shuts the bridge down itself.
	shut bool
}

func startHost(t testing.TB, setup hostSetup) *streamHost {
	t.Helper()
	h := &streamHost{exec: enginetest.NewExecutor(), log: &logBuffer{t: t}}
	mem, err := memstore.New(setup.store)
	if err != nil {
		t.Fatal(err)
	}
	var store engine.Store = mem
	if setup.wrap != nil {
		store = setup.wrap(mem)
	}
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	if setup.logger != nil {
		logger, setup.store.Logger = setup.logger, setup.logger
	}
	if setup.owners == nil {
		setup.owners = engine.OwnerOnly()
	}
	engineCfg := engine.Config{
		Store: store, Executor: h.exec, Ownership: setup.owners, Delivery: setup.deliver,
		RollUp: setup.rollUp, Metrics: setup.metrics, Logger: logger,
	}
	if setup.engine != nil {
		setup.engine(&engineCfg)
	}
	h.eng, err = engine.New(engineCfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Engine: h.eng, Auth: testAuth, Logger: logger}
	if setup.bridge != nil {
		setup.bridge(&cfg)
	}
	if h.bridge, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	setup.app.DisableStartupMessage = true
	h.app = fiber.New(setup.app)
	for _, m := range setup.before {
		h.app.Use(m)
	}
	if err := h.bridge.Mount(h.app.Group("/api/v1")); err != nil {
		t.Fatal(err)
	}
	if setup.routes != nil {
		setup.routes(h.app, h.bridge)
	}
	if setup.server != nil {
		setup.server(h.app)
	}

	var ln net.Listener
	switch setup.over {
	case "memory":
		mem := fasthttputil.NewInmemoryListener()
		h.dial, ln, h.addr = mem.Dial, mem, "memory"
	case "tls":
		cert := httptest.NewUnstartedServer(nil)
		cert.StartTLS()
		config := &tls.Config{Certificates: cert.TLS.Certificates}
		pool := cert.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		cert.Close()
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		h.addr = ln.Addr().String()
		ln = tls.NewListener(ln, config)
		h.dial = func() (net.Conn, error) {
			return tls.Dial("tcp", h.addr, &tls.Config{RootCAs: pool, ServerName: "example.com"})
		}
	default:
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		h.addr = ln.Addr().String()
		h.dial = func() (net.Conn, error) { return net.Dial("tcp", h.addr) }
	}
	served := make(chan error, 1)
	go func() { served <- h.app.Listener(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if !setup.shut {
			h.shutdown(t, ctx)
		}
		if err := h.app.ShutdownWithContext(ctx); err != nil {
			t.Errorf("app: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("listener: %v", err)
		}
	})
	return h
}

func (h *streamHost) shutdown(t testing.TB, ctx context.Context) {
	t.Helper()
	h.bridge.cfg.Drain.NotReady = -1
	h.bridge.cfg.Drain.Spread = -1
	if err := h.bridge.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if n := h.bridge.streams.group.Len(); n != 0 {
		t.Errorf("%d sockets are left after shutdown", n)
	}
	if n := h.streams(); n != 0 {
		t.Errorf("%d places are taken after shutdown", n)
	}
}

// streams is how many places are taken.
func (h *streamHost) streams() int {
	h.bridge.streams.mu.Lock()
	defer h.bridge.streams.mu.Unlock()
	return h.bridge.streams.used
}

// testAuth takes "Bearer name" or ?access_token=name, with an optional
// ";exp=<unix milliseconds>".
func testAuth(c *fiber.Ctx) (engine.AuthContext, error) {
	token := strings.TrimPrefix(c.Get("Authorization"), "Bearer ")
	if token == "" {
		token = c.Query("access_token")
	}
	name, exp, expires := strings.Cut(token, ";exp=")
	if name == "" {
		return engine.AuthContext{}, errors.New("no token")
	}
	if name == "unavailable" {
		return engine.AuthContext{}, engine.NewError(engine.CodeStoreUnavailable, "auth is down")
	}
	auth := engine.AuthContext{Subject: name}
	if expires {
		ms, err := strconv.ParseInt(exp, 10, 64)
		if err != nil {
			return engine.AuthContext{}, err
		}
		auth.ExpiresAt = time.UnixMilli(ms)
	}
	return auth, nil
}

// task creates a task of alice's and returns its run.
func (h *streamHost) task(t testing.TB) *engine.Run {
	t.Helper()
	res, err := h.eng.Create(context.Background(), engine.AuthContext{Subject: "alice"}, engine.CreateRequest{
		ClientRequestID: fmt.Sprintf("r-%d", h.tasks.Add(1)), TaskType: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return h.exec.Task(t, res.Task.ID)
}

// emit stores n messages.
func emit(t testing.TB, run *engine.Run, n int) {
	t.Helper()
	for i := range n {
		if err := run.Emit(context.Background(), engine.Message{Text: "m" + strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// complete ends the task.
func complete(t testing.TB, run *engine.Run) {
	t.Helper()
	if err := run.Emit(context.Background(), engine.Completed{Result: "done"}); err != nil {
		t.Fatal(err)
	}
}

// ids polls the whole log.
func (h *streamHost) ids(t testing.TB, task string) (ids []string) {
	t.Helper()
	var after engine.EventID
	for {
		res, err := h.eng.Poll(context.Background(), engine.AuthContext{Subject: "alice"},
			engine.PollRequest{TaskID: task, After: after, Max: 500})
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range res.Events {
			ids = append(ids, ev.ID.String())
		}
		if after = res.Next; !res.HasMore {
			return ids
		}
	}
}

// await waits for cond.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// connect dials, with a deadline so that no test hangs.
func (h *streamHost) connect(t testing.TB) net.Conn {
	t.Helper()
	conn, err := h.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// sseClient is an HTTP client of one response, as raw as it gets.
type sseClient struct {
	conn   net.Conn
	status int
	header http.Header
	body   *bufio.Reader
	raw    *bufio.Reader
}

func ssePath(task string) string { return "/api/v1/tasks/" + task + "/events/stream" }

// get sends a request for path, as alice unless a header line says otherwise,
// and reads the head of the answer.
func (h *streamHost) get(t testing.TB, path string, lines ...string) *sseClient {
	t.Helper()
	return h.do(t, "GET", path, "HTTP/1.1", lines...)
}

func (h *streamHost) do(t testing.TB, method, path, proto string, lines ...string) *sseClient {
	t.Helper()
	conn := h.connect(t)
	req := method + " " + path + " " + proto + "\r\nHost: " + h.addr + "\r\n"
	if !strings.Contains(strings.Join(lines, "\n"), "Authorization") && !strings.Contains(path, "access_token") {
		req += "Authorization: Bearer alice\r\n"
	}
	for _, l := range lines {
		req += l + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		t.Fatal(err)
	}
	return readHead(t, conn, proto)
}

func readHead(t testing.TB, conn net.Conn, proto string) *sseClient {
	t.Helper()
	c := &sseClient{conn: conn, raw: bufio.NewReader(conn)}
	tp := textproto.NewReader(c.raw)
	line, err := tp.ReadLine()
	if err != nil {
		t.Fatalf("status line: %v", err)
	}
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d ", &c.status); err != nil {
		t.Fatalf("status line %q: %v", line, err)
	}
	mime, err := tp.ReadMIMEHeader()
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	c.header = http.Header(mime)
	c.body = c.raw
	if c.header.Get("Transfer-Encoding") == "chunked" {
		if proto == "HTTP/1.0" {
			t.Error("a chunked answer to HTTP/1.0")
		}
		c.body = bufio.NewReader(httputil.NewChunkedReader(c.raw))
	}
	return c
}

// next reads one block, or the comment and the retry line that come by themselves
// before one: they count at once, without a blank line.
func (c *sseClient) next(t testing.TB) sseBlock {
	t.Helper()
	b, err := c.read()
	if err != nil {
		t.Fatalf("next block: %v", err)
	}
	return b
}

func (c *sseClient) read() (sseBlock, error) {
	var text strings.Builder
	for begun := false; ; {
		line, err := c.body.ReadString('\n')
		if err != nil {
			if rest := text.String() + line; rest != "" {
				return sseBlock{}, fmt.Errorf("%w after %q", err, rest)
			}
			return sseBlock{}, err
		}
		text.WriteString(line)
		switch {
		case line == "\n" && !begun:
			return sseBlock{}, fmt.Errorf("a blank line with no data before it: %q", text.String())
		case line == "\n" || line[0] == ':' && !begun:
			return parseSSE(text.String() + "\n")[0], nil
		}
		begun = begun || !strings.HasPrefix(line, "retry:")
	}
}

// event reads on to the next event, over comments and heartbeats.
func (c *sseClient) event(t testing.TB) sseBlock {
	t.Helper()
	for {
		if b := c.next(t); b.id != "" {
			return b
		}
	}
}

// named reads on to the next block with an event name.
func (c *sseClient) named(t testing.TB, name string) sseBlock {
	t.Helper()
	for {
		if b := c.next(t); b.event == name {
			return b
		}
	}
}

// rest reads to the end; clean says that the body was whole.
func (c *sseClient) rest(t testing.TB) (blocks []sseBlock, clean bool) {
	t.Helper()
	for {
		b, err := c.read()
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return blocks, true
		case errors.Is(err, io.ErrUnexpectedEOF):
			return blocks, false
		case err != nil:
			t.Fatalf("the connection broke: %v", err)
		}
		blocks = append(blocks, b)
	}
}

// all reads the body of a plain answer.
func (c *sseClient) all(t testing.TB) string {
	t.Helper()
	n, err := strconv.Atoi(c.header.Get("Content-Length"))
	if err != nil {
		t.Fatalf("no length: %v", c.header)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.raw, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func eventIDs(blocks []sseBlock) (ids []string) {
	for _, b := range blocks {
		if b.id != "" {
			ids = append(ids, b.id)
		}
	}
	return ids
}

// logBuffer keeps what was logged, and fails the test on an error level.
type logBuffer struct {
	t       testing.TB
	allowed atomic.Bool
}

func (l *logBuffer) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "level=ERROR") && !l.allowed.Load() {
		l.t.Errorf("logged: %s", p)
	}
	return len(p), nil
}
