package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// brokenLease is a lease client whose streams end after some answers.
type brokenLease struct {
	pb.LeaseClient
	answers int
	streams atomic.Int32
	ttl     func(id int64) int64
}

type brokenStream struct {
	grpc.ClientStream
	ctx  context.Context
	sent chan int64
	left int
	ttl  func(id int64) int64
}

func (l *brokenLease) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	if l.streams.Add(1)%3 == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &brokenStream{ctx: ctx, sent: make(chan int64), left: l.answers, ttl: l.ttl}, nil
}

func (s *brokenStream) Send(r *pb.LeaseKeepAliveRequest) error {
	select {
	case s.sent <- r.ID:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *brokenStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	select {
	case id := <-s.sent:
		if s.left == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		s.left--
		return &pb.LeaseKeepAliveResponse{ID: id, TTL: s.ttl(id)}, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// TestKeeperSurvivesBrokenStreams: every caller gets the answer for its own
// lease, however often the stream breaks in between.
func TestKeeperSurvivesBrokenStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lease := &brokenLease{answers: 3, ttl: func(id int64) int64 { return id % 7 }}
		k := newKeeper(lease)
		stop := runOnly(t, k.run)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the test's own time
		defer cancel()
		var wg sync.WaitGroup
		for i := range 60 {
			id := clientv3.LeaseID(i/2 + 1) // two callers each
			wg.Go(func() {
				ttl, err := k.renew(ctx, id)
				if want := time.Duration(id%7) * time.Second; err != nil || ttl != want {
					t.Errorf("lease %d: %v, %v; want %v", id, ttl, err, want)
				}
			})
		}
		wg.Wait()
		stop()
		if lease.streams.Load() < 5 || len(k.waiting) != 0 {
			t.Errorf("%d streams, %d leases still waited for", lease.streams.Load(), len(k.waiting))
		}
	})
}

func TestKeeperForgetsWhoGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(&brokenLease{})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errCallTimeout)
		defer cancel()
		if _, err := k.renew(ctx, 1); !errors.Is(err, ErrUnavailable) {
			t.Errorf("renew without a stream: %v", err)
		}
		if len(k.waiting) != 0 {
			t.Errorf("%d leases still waited for", len(k.waiting))
		}
	})
}

// countingLease counts keep-alive streams.
type countingLease struct {
	pb.LeaseClient
	streams atomic.Int32
}

func (l *countingLease) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	l.streams.Add(1)
	return l.LeaseClient.LeaseKeepAlive(ctx, opts...)
}

func TestAllRenewalsShareOneStream(t *testing.T) {
	t.Parallel()
	lease := &countingLease{LeaseClient: shared.etcd.Lease}
	s, err := New(shared.etcd.Client, Options{Lease: lease, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runOnly(t, s.Run)
	t.Cleanup(stop)
	eventually(t, "ready", func() bool { return s.Ready() == nil })
	var wg sync.WaitGroup
	for range 10 {
		r := daemon(t, s)
		wg.Go(func() {
			for range 50 {
				if _, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := lease.streams.Load(); n != 1 {
		t.Errorf("500 heartbeats took %d streams", n)
	}
}

// cluster starts three members on free ports.
func cluster(t *testing.T) (members []*embed.Etcd, endpoints []string, closers []func()) {
	t.Helper()
	const n = 3
	configs := make([]*embed.Config, n)
	var initial []string
	for i := range configs {
		o := EmbeddedOptions{ClientPort: freePort(t), PeerPort: freePort(t), Logger: quiet()}
		configs[i] = o.config(t.TempDir())
		configs[i].Name = string(rune('a' + i))
		initial = append(initial, configs[i].Name+"="+configs[i].AdvertisePeerUrls[0].String())
	}
	members = make([]*embed.Etcd, n)
	var wg sync.WaitGroup
	for i, c := range configs {
		c.InitialCluster = strings.Join(initial, ",")
		wg.Go(func() {
			m, err := embed.StartEtcd(c)
			if err != nil {
				t.Errorf("member %d: %v", i, err)
				return
			}
			members[i] = m
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, m := range members {
		closers = append(closers, sync.OnceFunc(m.Close))
		t.Cleanup(closers[i])
		<-m.Server.ReadyNotify()
		endpoints = append(endpoints, configs[i].AdvertiseClientUrls[0].String())
	}
	return members, endpoints, closers
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestEtcdsLogGoesToSlog(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log := bridge(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))).With(zap.String("a", "1"))
	log.Warn("careful", zap.Int("b", 2))
	log.Error("broken", zap.Error(io.EOF))
	for _, want := range []string{
		`level=DEBUG msg=careful part=etcd a=1 b=2`,
		`level=ERROR msg=broken part=etcd a=1 error=EOF`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	b.Reset()
	bridge(slog.New(slog.NewTextHandler(&b, nil))).Warn("careful")
	if b.Len() != 0 {
		t.Errorf("etcd's warnings are loud: %s", b.String())
	}
}
