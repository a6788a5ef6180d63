package store

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// followedLease counts the streams of a lease client that follows the leader.
type followedLease struct {
	*leaderLease
	streams atomic.Int32
}

func (l *followedLease) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	l.streams.Add(1)
	return l.leaderLease.LeaseKeepAlive(ctx, opts...)
}

func (l *followedLease) at() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.endpoint
}

// threeMembers is a store on three etcd members whose leader can be moved.
type threeMembers struct {
	members   []*embed.Etcd
	endpoints []string
	closers   []func()
	lease     *followedLease
	s         *Store
}

func newThreeMembers(t *testing.T) *threeMembers {
	t.Helper()
	c := &threeMembers{}
	c.members, c.endpoints, c.closers = cluster(t)
	x, err := Dial(t.Context(), c.endpoints, DialOptions{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	c.lease = &followedLease{leaderLease: x.leader}
	if c.s, err = New(edgeClient(x.Client, nil), Options{Lease: c.lease, Logger: quiet(), CallTimeout: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	c.s.keeper.follow = 20 * time.Millisecond
	t.Cleanup(runOnly(t, c.s.Run))
	eventually(t, "ready", func() bool { return c.s.Ready() == nil })
	return c
}

// leader is which member leads, -1 for none.
func (c *threeMembers) leader() int {
	for i, m := range c.members {
		if m.Server.Leader() == m.Server.MemberID() {
			return i
		}
	}
	return -1
}

// move makes another member the leader.
func (c *threeMembers) move(t *testing.T) {
	t.Helper()
	to := -1
	eventually(t, "a leader hands over", func() bool {
		from := c.leader()
		if from < 0 {
			return false
		}
		to = (from + 1) % len(c.members)
		leader := c.members[from].Server
		return leader.MoveLeader(t.Context(), uint64(leader.MemberID()), uint64(c.members[to].Server.MemberID())) == nil
	})
	eventually(t, "the leader has moved", func() bool { return c.leader() == to })
}

// TestEtcdsLeaderMoves: one stream carries all renewals and goes where the leader
// goes; no lease is lost by it, and no transaction is half done.
func TestEtcdsLeaderMoves(t *testing.T) {
	t.Parallel()
	c := newThreeMembers(t)
	t.Run("renewals follow", c.renewalsFollow)
	t.Run("in the middle of a call", c.movedInTheMiddle)
	t.Run("and dies", func(t *testing.T) {
		r := daemon(t, c.s)
		c.closers[c.leader()]()
		eventually(t, "heartbeats go through again", func() bool {
			_, err := c.s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free})
			return err == nil
		})
	})
}

func (c *threeMembers) renewalsFollow(t *testing.T) {
	r := daemon(t, c.s)
	before := c.s.view.live(r.DaemonID)
	beat := func() {
		t.Helper()
		if _, err := c.s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free}); err != nil {
			t.Fatal(err)
		}
	}
	beat()
	if at := c.lease.at(); at != c.endpoints[c.leader()] {
		t.Fatalf("the stream goes to %s, the leader is member %d of %v", at, c.leader(), c.endpoints)
	}
	streams := c.lease.streams.Load()
	c.move(t)
	eventually(t, "the stream has followed", func() bool {
		beat()
		return c.lease.at() == c.endpoints[c.leader()] && c.lease.streams.Load() > streams
	})
	for range 100 {
		beat()
	}
	if n := c.lease.streams.Load(); n != streams+1 {
		t.Errorf("following the leader took %d streams", n-streams)
	}
	if now := c.s.view.live(r.DaemonID); now == nil || now.lease != before.lease || now.mod != before.mod {
		t.Errorf("the lease was lost: %+v, before %+v", now, before)
	}
}

// movedInTheMiddle moves the leader between a call's read and its commit, and
// between its commit and the answer. Whatever it answers, its repetition finds
// the one change.
func (c *threeMembers) movedInTheMiddle(t *testing.T) {
	move := func() error {
		c.move(t)
		return nil
	}
	for name, p := range map[string]func() *plan{
		"before": func() *plan { return &plan{before: move} },
		"after":  func() *plan { return &plan{after: move, lose: true} },
	} {
		t.Run(name, func(t *testing.T) {
			r := daemonReq(t)
			settle(t, p(), func(ctx context.Context) error {
				_, err := c.s.Register(ctx, r)
				return err
			})
			create := CreateLogRequest{
				Name: logName(t), Daemons: []string{r.DaemonID}, AckQuorum: 1, CapacityBytes: 4096, IdempotencyKey: uuid.NewString(),
			}
			settle(t, p(), func(ctx context.Context) error { return made(c.s.CreateLog(ctx, create)) })
			open := OpenLogRequest{Log: create.Name, IdempotencyKey: uuid.NewString()}
			settle(t, p(), func(ctx context.Context) error {
				a, err := c.s.OpenLog(ctx, open)
				if err == nil && a.Epoch != 1 {
					t.Errorf("epoch %d", a.Epoch)
				}
				return err
			})
			if n := reserved(t, c.s, r.DaemonID); n != oneLog {
				t.Errorf("%d bytes reserved, want %d", n, oneLog)
			}
		})
	}
}

// settle makes a call under the plan until it is answered. The plan's moment comes
// once, in the first attempt that gets so far.
func settle(t *testing.T, p *plan, call func(ctx context.Context) error) {
	t.Helper()
	eventually(t, "the call is answered", func() bool {
		err := call(p.in(t.Context()))
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	p.happened(t)
}
