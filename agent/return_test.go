package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
)

const (
	outageTTL = 10 * time.Second
	tenth     = 100 * time.Millisecond
)

// outage is a control plane that is away for a while and comes back without
// a lease of anybody.
type outage struct {
	mu         sync.Mutex
	away       bool
	life       int // how often it came back
	back       time.Time
	registered map[time.Duration]int // in each tenth of a second since then
	refused    int                   // attempts while it was away
}

// simulated is one daemon's connection to it.
type simulated struct {
	o    *outage
	life int // of the outage, in which it has a lease
}

func (d *simulated) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	o := d.o
	o.mu.Lock()
	defer o.mu.Unlock()
	seconds := outageTTL.Seconds()
	switch {
	case o.away:
		o.refused++
		return nil, errors.New("connection refused")
	case r.Method == http.MethodPut:
		d.life = o.life
		o.registered[time.Since(o.back).Truncate(tenth)]++
		return reply(http.StatusOK, openapi.Registration{
			ClusterID:       "00000000-0000-4000-8000-000000000001",
			LeaseTTLSeconds: int64(seconds), RenewEverySeconds: seconds / 3, Replicas: []openapi.ReplicaVerdict{},
		})
	case d.life != o.life:
		return reply(http.StatusNotFound, openapi.Problem{Type: openapi.ProblemLeaseExpired, Status: http.StatusNotFound, Title: "gone"})
	}
	return reply(http.StatusOK, openapi.HeartbeatAnswer{
		LeaseTTLSeconds: int64(seconds), RenewEverySeconds: seconds / 3, Operators: []openapi.Operator{},
	})
}

func reply(status int, body any) (*http.Response, error) {
	kind := "application/json"
	if status >= http.StatusBadRequest {
		kind = openapi.ProblemMediaType
	}
	b, err := json.Marshal(body)
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(string(b))),
	}, err
}

func (o *outage) set(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = away
	if !away {
		o.life++
		o.back, o.registered = time.Now(), make(map[time.Duration]int)
	}
}

// TestAThousandDaemonsComeBack: the API servers are away for three times to
// live under a thousand daemons, which had all begun at one moment. Each comes
// back, and not all at once.
func TestAThousandDaemonsComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const daemons = 1000
		a, err := New(Options{
			ID: "many", Dir: dir, PoolSize: poolSize, Endpoints: []string{"http://127.0.0.1:1"}, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		a.addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
		o := &outage{}
		o.set(false)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range daemons {
			l := newLease(a)
			if l.api, err = apiclient.New(a.opts.Endpoints, apiclient.Options{Transport: &simulated{o: o}}); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if err := l.run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * outageTTL)
		o.set(true)
		time.Sleep(3 * outageTTL)
		o.set(false)
		time.Sleep(2 * outageTTL)

		o.mu.Lock()
		all, busiest := 0, 0
		for _, n := range o.registered {
			all, busiest = all+n, max(busiest, n)
		}
		// They ask at most every five seconds, give or take half: even spread out,
		// twenty fall into each tenth of a second.
		if all != daemons || busiest > daemons/10 || len(o.registered) < 20 {
			t.Errorf("%d of %d are back, at most %d in a tenth of a second, over %d of those", all, daemons, busiest, len(o.registered))
		}
		// While nobody answered they asked less and less often.
		if most := daemons * 20; o.refused > most {
			t.Errorf("%d attempts while nobody answered, want at most %d", o.refused, most)
		}
		o.mu.Unlock()
		cancel()
		wg.Wait()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}
