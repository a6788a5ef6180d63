package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// plan is what happens at the edges of one call's transactions. It travels in
// the call's context, so calls of other tests through the same store go
// untouched.
type plan struct {
	// at is the table that the transaction meant by before and lose writes; ""
	// means any that writes at all. The first skip of them pass.
	at   string
	skip int
	// before happens once, between what the call has read and its commit.
	before func() error
	// after happens once, when the commit is done and before its answer.
	after func() error
	// lose applies the transaction once and reports that etcd was not reached.
	lose bool
	// without takes all comparisons with keys of this table away, from that
	// transaction on.
	without string

	mu       sync.Mutex
	passed   int
	began    bool
	ended    bool
	lost     bool
	compared map[string]bool // tables that the call's transactions compared
}

type planKey struct{}

// in returns a context that carries the plan.
func (p *plan) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, planKey{}, p)
}

// edgeKV is a clientv3.KV that follows the plans of its calls.
type edgeKV struct{ clientv3.KV }

func (kv edgeKV) Txn(ctx context.Context) clientv3.Txn {
	p, _ := ctx.Value(planKey{}).(*plan)
	if p == nil {
		return kv.KV.Txn(ctx)
	}
	return &edgeTxn{inner: kv.KV.Txn(ctx), p: p}
}

type edgeTxn struct {
	inner clientv3.Txn
	p     *plan
	cmps  []clientv3.Cmp
	ops   []clientv3.Op
}

func (x *edgeTxn) If(cmps ...clientv3.Cmp) clientv3.Txn {
	x.cmps = append(x.cmps, cmps...)
	return x
}

func (x *edgeTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	x.ops = append(x.ops, ops...)
	return x
}

func (x *edgeTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	x.inner = elseTxn{x.inner, ops}
	return x
}

// elseTxn gives the transaction its other branch in the order that etcd's
// client insists on.
type elseTxn struct {
	clientv3.Txn
	ops []clientv3.Op
}

func (x elseTxn) If(cmps ...clientv3.Cmp) clientv3.Txn { return elseTxn{x.Txn.If(cmps...), x.ops} }
func (x elseTxn) Then(ops ...clientv3.Op) clientv3.Txn { return x.Txn.Then(ops...).Else(x.ops...) }

func (x *edgeTxn) Commit() (*clientv3.TxnResponse, error) {
	if !x.writes("") {
		return x.inner.Then(x.ops...).Commit()
	}
	meant := x.p.means(x)
	if meant {
		if err := x.p.once(&x.p.began, x.p.before); err != nil {
			return nil, err
		}
	}
	resp, err := x.inner.If(x.p.kept(x.cmps, meant)...).Then(x.ops...).Commit()
	if err == nil && meant && resp.Succeeded {
		err = x.p.answer()
	}
	return resp, err
}

// writes says whether the transaction writes into the table, or at all.
func (x *edgeTxn) writes(table string) bool {
	return slices.ContainsFunc(x.ops, func(op clientv3.Op) bool {
		return (op.IsPut() || op.IsDelete()) && (table == "" || tableOf(op.KeyBytes()) == table)
	})
}

func tableOf(key []byte) string {
	table, _ := splitKey(string(key))
	return table
}

// kept are the comparisons that are left. Those of a transaction that the plan is not
// about, such as one that reads the cluster's identity, are not the call's own.
func (p *plan) kept(cmps []clientv3.Cmp, meant bool) []clientv3.Cmp {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []clientv3.Cmp
	for _, c := range cmps {
		table := tableOf(c.KeyBytes())
		if p.compared == nil {
			p.compared = make(map[string]bool)
		}
		if meant {
			p.compared[table] = true
		}
		if table != p.without || p.passed <= p.skip {
			kept = append(kept, c)
		}
	}
	return kept
}

// means says whether the transaction is one that the plan is about.
func (p *plan) means(x *edgeTxn) bool {
	if !x.writes(p.at) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed++
	return p.passed > p.skip
}

// answer is what becomes of the answer to a transaction that is applied.
func (p *plan) answer() error {
	if err := p.once(&p.ended, p.after); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lose || p.lost {
		return nil
	}
	p.lost = true
	return rpctypes.ErrLeaderChanged // as of a request whose fate is unknown
}

func (p *plan) once(done *bool, do func() error) error {
	p.mu.Lock()
	if *done || do == nil {
		p.mu.Unlock()
		return nil
	}
	*done = true
	p.mu.Unlock()
	if err := do(); err != nil {
		return fmt.Errorf("the test's other side: %w", err)
	}
	return nil
}

// happened fails the test if the plan's moment never came: the test would show
// nothing then.
func (p *plan) happened(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.before != nil && !p.began || p.after != nil && !p.ended || p.lose && !p.lost {
		t.Errorf("the transaction that writes %q never came", p.at)
	}
}

// edgeClient is the client with its transactions under plans, and its watches
// behind a gate if there is one.
func edgeClient(c *clientv3.Client, g *gate) *clientv3.Client {
	out := clientv3.NewCtxClient(context.Background())
	out.KV, out.Lease, out.Watcher, out.Maintenance = edgeKV{c.KV}, c.Lease, c.Watcher, c.Maintenance
	if g != nil {
		g.Watcher = c.Watcher
		out.Watcher = g
	}
	return out
}

// gate holds back what a store's watch brings, so that its view ages at the
// test's will.
type gate struct {
	clientv3.Watcher

	mu   sync.Mutex
	shut chan struct{} // closed to let all through; nil while open
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) wait(ctx context.Context) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return
	}
	select {
	case <-shut:
	case <-ctx.Done():
	}
}

// Watch implements clientv3.Watcher.
func (g *gate) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	in := g.Watcher.Watch(ctx, key, opts...)
	out := make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for resp := range in {
			g.wait(ctx)
			select {
			case out <- resp:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// lagging runs another store on the shared etcd whose view can be held back.
func lagging(t *testing.T, o Options) (*Store, *gate) {
	t.Helper()
	g := &gate{}
	s, stop, err := startOn(edgeClient(shared.etcd.Client, g), shared.etcd.Lease, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.open()
		stop()
	})
	return s, g
}

// byHand writes a key past all guards, as a program of another version or
// a person might.
func byHand(ctx context.Context, key string, rec any) error {
	return handed(shared.store.client.Do(ctx, put(key, rec)))
}

// gone removes a key past all guards.
func gone(ctx context.Context, key string) error {
	return handed(shared.store.client.Do(ctx, clientv3.OpDelete(key)))
}

func handed(_ clientv3.OpResponse, err error) error { return err }

// recordOf is a key's value as etcd has it, nil if there is none.
func recordOf[T interface{ schemaVersion() int }](t *testing.T, key string) (*T, entry) {
	t.Helper()
	return recordIn[T](t, shared.store, key)
}

// recordIn is recordOf for a store on another etcd than the shared one.
func recordIn[T interface{ schemaVersion() int }](t *testing.T, s *Store, key string) (*T, entry) {
	t.Helper()
	es, _, err := s.read(context.WithoutCancel(t.Context()), key)
	if err != nil {
		t.Fatal(err)
	}
	if !es[0].exists() {
		return nil, es[0]
	}
	rec, err := decode[T](key, es[0].value)
	if err != nil {
		t.Fatal(err)
	}
	return &rec, es[0]
}

// answered says that a call did not answer as it must.
func answered(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("it answered %w, want: %w", orNone(err), orNone(want))
}

var errNone = errors.New("no error")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// unfit says that a call did not refuse a daemon by this rule.
func unfit(err error, rule string) error {
	var u *UnfitError
	if errors.As(err, &u) && u.Rule == rule {
		return nil
	}
	return fmt.Errorf("it answered %w, want a daemon that is unfit: %s", orNone(err), rule)
}

// equal says what is not as it must be.
func equal[T comparable](what string, got, want T) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s: %v, want %v", what, got, want)
}
