package fiberbridge

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var timingTries = flag.Int("timing", 100, "tries of each kind in TestForeignTakesAsLongAsUnknown")

// timingRuns is how often a difference must show, one run after the other, to
// count. This machine has other things to do.
const timingRuns = 3

// A task of somebody else's is refused no sooner and no later than one that does
// not exist, by any route: a rank test over interleaved tries does not tell them
// apart. -timing 1000 tries harder.
func TestForeignTakesAsLongAsUnknown(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{})
		var foreign []string
		for i := range 8 {
			// Some with a large record, which takes longest to look at.
			foreign = append(foreign, n.here.largeTask(t, []int{0, 256 << 10, 1<<20 - 16}[i%3]))
		}
		unknown := func(like string) string {
			id := []byte(like)
			for i := range id {
				id[i] = "abcdefghijklmnopqrstuvwxyz234567"[rand.IntN(32)]
			}
			return string(id)
		}
		t.Run("routes", func(t *testing.T) {
			for name, try := range refusals(n.there) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					for run := range timingRuns {
						conn := &refusedClient{h: n.there}
						defer conn.close()
						var took [2][]float64
						for i := range 2 * *timingTries {
							kind := rand.IntN(2)
							if len(took[kind]) == *timingTries {
								kind = 1 - kind
							}
							id := foreign[i%len(foreign)]
							if kind == 1 {
								id = unknown(id)
							}
							d, err := try(conn, id)
							if err != nil {
								t.Fatal(err)
							}
							took[kind] = append(took[kind], float64(d))
						}
						p := rankTest(took[0], took[1])
						t.Logf("p = %.3f; medians %v foreign, %v unknown", p, median(took[0]), median(took[1]))
						if p > 0.001 {
							return
						}
						if run == timingRuns-1 {
							t.Error("foreign tasks can be told from unknown ones by the time that the answer takes")
						}
					}
				})
			}
		})
	})
}

// largeTask creates a task of alice's with input and metadata of about so many
// bytes each.
func (h *streamHost) largeTask(t *testing.T, size int) string {
	t.Helper()
	res, err := h.eng.Create(t.Context(), engine.AuthContext{Subject: "alice"}, engine.CreateRequest{
		ClientRequestID: fmt.Sprintf("r-%d", h.tasks.Add(1)), TaskType: "test",
		Input:    []byte(`{"x":"` + strings.Repeat("x", size) + `"}`),
		Metadata: []byte(`{"x":"` + strings.Repeat("x", size) + `"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return res.Task.ID
}

// refusedClient keeps what a try can use again.
type refusedClient struct {
	h    *streamHost
	conn net.Conn
	r    *bufio.Reader
}

func (c *refusedClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *refusedClient) dial() error {
	if c.conn != nil {
		return nil
	}
	conn, err := c.h.dial()
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * patience))
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

// refusals are the routes by which mallory tries a task.
func refusals(h *streamHost) map[string]func(c *refusedClient, id string) (time.Duration, error) {
	plain := func(method, path, body string) func(*refusedClient, string) (time.Duration, error) {
		return func(c *refusedClient, id string) (time.Duration, error) {
			if err := c.dial(); err != nil {
				return 0, err
			}
			req := fmt.Sprintf("%s /api/v1/tasks/%s%s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				method, id, path, h.addr, bearer("mallory"), len(body), body)
			began := time.Now()
			if _, err := io.WriteString(c.conn, req); err != nil {
				return 0, err
			}
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				return 0, err
			}
			took := time.Since(began)
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && (resp.StatusCode != http.StatusNotFound || !bytes.Contains(text, []byte("TASK_NOT_FOUND"))) {
				err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
			}
			if resp.Close {
				c.close()
			}
			return took, err
		}
	}
	return map[string]func(*refusedClient, string) (time.Duration, error){
		"snapshot": plain("GET", "", ""),
		"poll":     plain("GET", "/events?waitTimeoutMs=1000", ""),
		"sse":      plain("GET", "/events/stream", ""),
		"cancel":   plain("POST", "/cancel", `{"reason":"x"}`),
		"action":   plain("POST", "/actions", `{"clientActionId":"c","suspendId":"s","actionType":"approve"}`),
		"websocket": func(c *refusedClient, id string) (time.Duration, error) {
			if c.conn == nil {
				if err := c.dial(); err != nil {
					return 0, err
				}
				_, err := io.WriteString(c.conn, "GET "+wsPath+" HTTP/1.1\r\nHost: "+h.addr+"\r\n"+
					bearer("mallory")+"\r\n"+strings.Join(wsUpgrade, "\r\n")+"\r\n\r\n")
				if err != nil {
					return 0, err
				}
				resp, err := http.ReadResponse(c.r, nil)
				if err != nil {
					return 0, err
				}
				if resp.StatusCode != http.StatusSwitchingProtocols {
					return 0, fmt.Errorf("upgrade: %d", resp.StatusCode)
				}
			}
			defer c.close() // the first refusal closes the socket
			began := time.Now()
			if _, err := c.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + id + `"}`)); err != nil {
				return 0, err
			}
			head := make([]byte, 4)
			if _, err := io.ReadFull(c.r, head); err != nil {
				return 0, err
			}
			if !bytes.Equal([]byte{head[0], head[2], head[3]}, []byte{0x88, 0x03, 0xf0}) {
				return 0, fmt.Errorf("no close with 1008 but % x", head)
			}
			return time.Since(began), nil
		},
	}
}

// rankTest is the two-sided p of the Mann-Whitney U test, by its normal
// approximation with ties.
func rankTest(a, b []float64) float64 {
	type value struct {
		v     float64
		first bool
	}
	var all []value
	for _, v := range a {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	slices.SortFunc(all, func(x, y value) int {
		switch {
		case x.v < y.v:
			return -1
		case x.v > y.v:
			return 1
		}
		return 0
	})
	n, m := float64(len(a)), float64(len(b))
	var ranks, ties float64
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		rank, same := float64(i+j+1)/2, float64(j-i)
		for _, x := range all[i:j] {
			if x.first {
				ranks += rank
			}
		}
		ties += same*same*same - same
		i = j
	}
	u := ranks - n*(n+1)/2
	total := n + m
	sigma := math.Sqrt(n * m / 12 * (total + 1 - ties/(total*(total-1))))
	if sigma == 0 {
		return 1
	}
	return math.Erfc(math.Abs(u-n*m/2) / sigma / math.Sqrt2)
}

func median(v []float64) time.Duration {
	slices.Sort(v)
	return time.Duration(v[len(v)/2]).Round(time.Microsecond)
}

// The rank test itself tells apart what differs, and does not what does not.
func TestRankTest(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	sample := func(shift float64) (v []float64) {
		for range 1000 {
			v = append(v, source.NormFloat64()+shift)
		}
		return v
	}
	if p := rankTest(sample(0), sample(0)); p < 0.001 {
		t.Errorf("equal: p = %v", p)
	}
	if p := rankTest(sample(0), sample(0.3)); p > 0.001 {
		t.Errorf("different: p = %v", p)
	}
	if p := rankTest([]float64{1, 1, 1}, []float64{1, 1}); p != 1 {
		t.Errorf("all the same: p = %v", p)
	}
}
