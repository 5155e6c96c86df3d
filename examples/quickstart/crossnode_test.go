package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// needsRedis skips a test in make quick, which does without a server.
func needsRedis(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a Redis server")
	}
}

// pair is two hosts on one Redis.
func pair(t *testing.T) (a, b *demo) {
	t.Helper()
	needsRedis(t)
	url := "redis://" + redistest.Server(t).Addr()
	return serve(t, "-redis", url), serve(t, "-redis", url)
}

// byPoll is the whole log, as the pages give it.
func (d *demo) byPoll(taskID string) []string {
	var ids []string
	for _, e := range d.events(taskID, 0) {
		ids = append(ids, e.EventID+" "+e.Type)
	}
	return ids
}

// bySSE follows to the end of the stream.
func (d *demo) bySSE(taskID string) ([]string, error) {
	response, err := client.Get(d.url + "/api/v1/tasks/" + taskID + "/events/stream?access_token=alice")
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var ids []string
	for lines := bufio.NewReader(response.Body); ; {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && !strings.Contains(data, `"HEARTBEAT"`) {
			ids = append(ids, brief(data))
		}
	}
}

// byWebSocket follows until the server closes.
func (d *demo) byWebSocket(taskID string) ([]string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, d.url+"/api/v1/tasks/ws?access_token=alice", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(1 << 20)
	if err := conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"action":"subscribe","taskId":%q}`, taskID)); err != nil {
		return nil, err
	}
	var ids []string
	for {
		_, frame, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		if text := string(frame); !strings.Contains(text, `"HEARTBEAT"`) && !strings.Contains(text, `"SUBSCRIPTION_CONFIRMED"`) {
			ids = append(ids, brief(text))
		}
	}
}

// brief is the id and type of an encoded event.
func brief(event string) string {
	field := func(name string) string {
		_, rest, _ := strings.Cut(event, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	return field("eventId") + " " + field("type")
}

func TestTwoHostsStreamEachOthersTasks(t *testing.T) {
	a, b := pair(t)
	const count = 300
	taskID := a.start("tokens", fmt.Sprintf(`{"count":%d,"intervalMs":2,"startDelayMs":100}`, count))
	var streams sync.WaitGroup
	transcripts := make([][]string, 4)
	for i, follow := range []func(string) ([]string, error){a.bySSE, b.bySSE, a.byWebSocket, b.byWebSocket} {
		streams.Go(func() {
			var err error
			if transcripts[i], err = follow(taskID); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	want := b.byPoll(taskID)
	streams.Wait()
	if len(want) != count+2 {
		t.Fatalf("%d events by poll", len(want))
	}
	for i, got := range append(transcripts, a.byPoll(taskID)) {
		if !slices.Equal(got, want) {
			t.Errorf("transcript %d has %d events and differs from the %d by poll", i, len(got), len(want))
		}
	}
}

// request sends JSON as alice.
func (d *demo) request(path, body string) (int, map[string]any) {
	d.t.Helper()
	request, err := http.NewRequest(http.MethodPost, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	return d.do(request)
}

// soon is much longer than an event takes from one host to another, and much
// shorter than any interval at which somebody looks by himself.
const soon = 4 * time.Second

func TestCancelOnTheOtherHostWakesAParkedPoll(t *testing.T) {
	a, b := pair(t)
	taskID := a.start("stall", `{}`)
	first := b.events(taskID, 1)[0]
	type answer struct {
		at     time.Time
		events []any
	}
	parked := make(chan answer, 1)
	go func() {
		request, err := http.NewRequest(http.MethodGet,
			b.url+"/api/v1/tasks/"+taskID+"/events?waitTimeoutMs=15000&afterEventId="+first.EventID, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_, page := b.do(request)
		events, _ := page["events"].([]any)
		parked <- answer{time.Now(), events}
	}()
	select {
	case got := <-parked:
		t.Fatalf("the poll did not wait: %v", got.events)
	case <-time.After(300 * time.Millisecond):
	}
	asked := time.Now()
	if status, got := b.request("/api/v1/tasks/"+taskID+"/cancel", `{"reason":"enough"}`); status != http.StatusAccepted {
		t.Fatalf("%d: %v", status, got)
	}
	got := <-parked
	took := got.at.Sub(asked)
	t.Logf("cancelled there and told here in %v", took)
	if len(got.events) != 1 || !strings.Contains(fmt.Sprint(got.events[0]), "TASK_CANCELLED") || !strings.Contains(fmt.Sprint(got.events[0]), "enough") {
		t.Errorf("the poll got %v", got.events)
	}
	if took > soon {
		t.Errorf("it took %v", took)
	}
}

func TestEqualCreatesOnBothHostsMakeOneTask(t *testing.T) {
	a, b := pair(t)
	const creates = 50
	var group sync.WaitGroup
	var statuses [creates]int
	var ids [creates]any
	for i := range creates {
		d := []*demo{a, b}[i%2]
		group.Go(func() {
			var got map[string]any
			statuses[i], got = d.request("/api/v1/tasks", `{"clientRequestId":"the same","taskType":"greet","input":{"name":"Ada"}}`)
			ids[i] = got["taskId"]
		})
	}
	group.Wait()
	created := 0
	for i := range creates {
		switch statuses[i] {
		case http.StatusCreated:
			created++
		case http.StatusOK:
		default:
			t.Errorf("create %d: %d", i, statuses[i])
		}
		if ids[i] != ids[0] {
			t.Errorf("create %d made %v, another %v", i, ids[i], ids[0])
		}
	}
	if created != 1 {
		t.Errorf("%d creates made a task", created)
	}
	if got := types(b.events(fmt.Sprint(ids[0]), 0)); got != "STARTED PROGRESS PROGRESS PROGRESS COMPLETED" {
		t.Errorf("it ran as %s", got)
	}
}

func TestOtherOwnersSeeNothingOnEitherHost(t *testing.T) {
	a, b := pair(t)
	taskID := a.start("greet", `{}`)
	for _, d := range []*demo{a, b} {
		response, err := client.Get(d.url + "/api/v1/tasks/" + taskID + "?access_token=bob")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", d, response.Status)
		}
	}
}

// TestTasksOfAHostThatDied follows tasks on the other host past the death of the
// process that runs them: nobody waits for ever, and a wish to cancel is met.
func TestTasksOfAHostThatDied(t *testing.T) {
	needsRedis(t)
	url := "redis://" + redistest.Server(t).Addr()
	short := []string{leaseEnv + "=1500ms"}
	a, kill := serveProcess(t, short, "-redis", url)
	b, _ := serveProcess(t, short, "-redis", url)
	running := a.start("tokens", `{"count":100000,"intervalMs":5}`)
	unwanted := a.start("stall", `{}`)
	b.events(unwanted, 1)
	b.events(running, 20)
	var stream []string
	var streams sync.WaitGroup
	streams.Go(func() {
		var err error
		if stream, err = b.bySSE(running); err != nil {
			t.Errorf("the stream of a task whose host died: %v", err)
		}
	})
	kill()
	died := time.Now()
	if status, got := b.request("/api/v1/tasks/"+unwanted+"/cancel", `{"reason":"enough"}`); status != http.StatusAccepted {
		t.Errorf("cancel: %d %v", status, got)
	}
	all := b.events(running, 0)
	if last := all[len(all)-1]; last.Type != "TASK_FAILED" || last.Payload["code"] != "WORKER_LOST" || last.Payload["retryable"] != true {
		t.Errorf("it ended with %s %v", last.Type, last.Payload)
	}
	streams.Wait()
	if want := b.byPoll(running); !slices.Equal(stream, want) {
		t.Errorf("the stream had %d events and differs from the %d by poll", len(stream), len(want))
	}
	if got := types(b.events(unwanted, 0)); got != "STARTED CANCELLED" {
		t.Errorf("the task that was cancelled after its host had died: %s", got)
	}
	t.Logf("over %v after the host's death", time.Since(died).Round(time.Millisecond))
}

func TestHostOnClusterSentinelAndTLS(t *testing.T) {
	needsRedis(t)
	cluster := redistest.Cluster(t)
	watch := redistest.Sentinel(t)
	secure := redistest.Server(t, redistest.TLS(), redistest.User("demo", "on >p@ss ~demo:* &* +@all"), redistest.User("default", "off"))
	for name, c := range map[string]struct {
		redis string
		env   []string
	}{
		"cluster":  {redis: strings.Join(cluster.Addrs(), ",")},
		"sentinel": {redis: "redis+sentinel://" + strings.Join(watch.Addrs(), ",") + "/" + redistest.MasterSet},
		"tls":      {redis: "rediss://demo:p%40ss@" + secure.Addr(), env: []string{"SSL_CERT_FILE=" + secure.CAFile()}},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := serveProcess(t, c.env, "-redis", c.redis, "-redis-prefix", "demo")
			if got := types(d.events(d.start("greet", `{}`), 0)); got != "STARTED PROGRESS PROGRESS PROGRESS COMPLETED" {
				t.Error(got)
			}
		})
	}
}
