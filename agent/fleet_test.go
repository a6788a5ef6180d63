package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio/tcp"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

// fleet is a cluster of agents by daemon ID.
type fleet struct {
	*cluster
	agents map[string]*running
	opts   map[string]Options
	dials  tcp.Options // of clients
}

func newFleet(t *testing.T) *fleet {
	return &fleet{cluster: newCluster(t), agents: map[string]*running{}, opts: map[string]Options{}}
}

// start adds daemons, or brings those back that were ended.
func (f *fleet) start(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		o, known := f.opts[id]
		if !known {
			o = f.options(strings.TrimPrefix(id, f.name))
		}
		f.run(o)
	}
}

func (f *fleet) run(o Options) *running {
	f.t.Helper()
	a := start(f.t, withRegistry(o))
	f.opts[o.ID], f.agents[o.ID] = o, a
	f.untilState(o.ID, openapi.DaemonUp)
	return a
}

// spare starts the daemon that the learners come to.
func (f *fleet) spare(edit func(o *Options)) *running {
	f.t.Helper()
	o := f.options("spare")
	if edit != nil {
		edit(&o)
	}
	return f.run(o)
}

func (f *fleet) client(log *openapi.Log, o replog.Options) *replog.Writer {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	proof := ""
	if f.dials.Key != nil {
		proof = f.dials.Key.Digest()
	}
	o.Dial = replog.DialTCP(f.dials)
	w, err := replog.Open(ctx, control.New(f.api, "client", shortTTL).Proving(proof), replog.OpenRequest{Log: log.LogID}, o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = w.Close() })
	return w
}

const records = 30

// closedLog makes a log of three replicas that holds records on all of them, and
// no writer.
func (f *fleet) closedLog(name string) *openapi.Log {
	f.t.Helper()
	log := f.createLog(name, 3)
	w := f.client(log, replog.Options{})
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for i := range records {
		if _, err := w.Append(ctx, format.Record{Payload: []byte(fmt.Sprintf("%s record %d", name, i))}); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := w.Settle(ctx); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.log(log)
}

func (f *fleet) log(log *openapi.Log) *openapi.Log {
	f.t.Helper()
	r, err := f.api.GetLogWithResponse(context.Background(), log.LogID)
	if err != nil || r.JSON200 == nil {
		f.t.Fatal(err, string(r.Body))
	}
	return r.JSON200
}

// replace asks for a replacement of the log's first replica, and returns the
// learner.
func (f *fleet) replace(log *openapi.Log) openapi.Replica {
	f.t.Helper()
	var learner openapi.Replica
	eventually(f.t, "a learner can be placed", func() bool { // the view may lag behind the registration
		r, err := f.api.StartReplacementWithResponse(context.Background(), log.LogID, nil,
			openapi.StartReplacementRequest{Replica: log.Replicas[0].ReplicaID})
		if err != nil {
			f.t.Fatal(err)
		}
		if r.JSON200 == nil && r.StatusCode() != http.StatusConflict {
			f.t.Fatalf("replace: %s", r.Body)
		}
		if r.JSON200 != nil {
			learner = r.JSON200.Replicas[len(r.JSON200.Replicas)-1]
		}
		return r.JSON200 != nil
	})
	if learner.State != openapi.ReplicaLearner {
		f.t.Fatalf("no learner: %+v", learner)
	}
	return learner
}

// replaced waits until the log has the learner in its set, and nobody writes it.
func (f *fleet) replaced(log *openapi.Log, learner openapi.Replica) {
	f.t.Helper()
	var now *openapi.Log
	eventually(f.t, log.Name+" is replaced and closed", func() bool {
		now = f.log(log)
		return now.SetVersion == log.SetVersion+1 && now.State == openapi.LogClosed
	})
	want := []string{learner.ReplicaID, log.Replicas[1].ReplicaID, log.Replicas[2].ReplicaID}
	var got []string
	for _, r := range now.Replicas {
		got = append(got, r.ReplicaID)
		if r.State != openapi.ReplicaPresent {
			f.t.Errorf("replica %s is %s", r.ReplicaID, r.State)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		f.t.Errorf("the set is %v, want %v", got, want)
	}
}

// holds opens the log and checks its records; the open needs the replicas that
// are named to be whole.
func (f *fleet) holds(log *openapi.Log, name string) {
	f.t.Helper()
	w := f.client(log, replog.Options{})
	f.readsBack(w, name)
	if err := w.Close(); err != nil {
		f.t.Error(err)
	}
}

func (f *fleet) readsBack(w *replog.Writer, name string) {
	f.t.Helper()
	n := 0
	_, err := w.Read(w.TrimLSN(), func(_ format.Header, p []byte) error {
		if want := fmt.Sprintf("%s record %d", name, n); string(p) != want {
			return fmt.Errorf("%q, want %q", p, want)
		}
		n++
		return nil
	})
	if err != nil || n != records {
		f.t.Errorf("%s: read back %d records of %d: %v", name, n, records, err)
	}
}

// ended is how many recoveries an agent's metrics say have ended like that.
func ended(a *running, outcome string) int {
	a.t.Helper()
	rec := httptest.NewRecorder()
	a.observability().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	_, rest, found := strings.Cut(rec.Body.String(), `graven_agent_recoveries_ended_total{outcome="`+outcome+`"} `)
	if !found {
		return 0
	}
	n := 0
	if _, err := fmt.Sscan(rest, &n); err != nil {
		a.t.Fatal(err)
	}
	return n
}

func (f *fleet) outcomes(a *running, done, yielded, failed int) {
	f.t.Helper()
	for outcome, want := range map[string]int{recoveryDone: done, recoveryYielded: yielded, recoveryFailed: failed} {
		if got := ended(a, outcome); got != want {
			f.t.Errorf("%s: %d recoveries are %s, want %d", a.ID(), got, outcome, want)
		}
	}
}

// told collects the results of recoveries that agents have reported.
type told struct {
	mu      sync.Mutex
	results []openapi.OperatorResult
}

func (f *fleet) listen() *told {
	r := &told{}
	f.gate.onRequest(func(req *http.Request, body []byte) {
		if !strings.HasSuffix(req.URL.Path, "/heartbeat") {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, res := range decode[openapi.HeartbeatRequest](f.t, body).Results {
			if res.Kind == openapi.OperatorRecoverLog {
				r.results = append(r.results, res)
			}
		}
	})
	return r
}

func (r *told) find(ok bool) *openapi.OperatorResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.results {
		if r.results[i].Ok == ok {
			return &r.results[i]
		}
	}
	return nil
}
