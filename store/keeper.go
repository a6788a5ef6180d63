package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keeper renews leases over one keep-alive stream. The client library's own
// KeepAlive renews by itself for as long as it lives, but here a lease must die
// with its holder: only a holder's call may renew it. Its KeepAliveOnce opens a
// stream for every call.
//
// Calls are pipelined: answers are matched by lease ID, and calls for a lease
// whose request is under way share its answer. When the stream breaks, it is
// opened again and what is waiting is sent again; renewing twice is harmless.
type keeper struct {
	lease pb.LeaseClient
	// follow is how often a follower is asked.
	follow time.Duration

	mu      sync.Mutex
	waiting map[clientv3.LeaseID][]chan int64
	unsent  []clientv3.LeaseID
	wake    chan struct{} // has room for one: unsent is not empty
}

// follower is a lease client that can tell that etcd's leader, and so the best
// end of the stream, is elsewhere now.
type follower interface {
	Moved(ctx context.Context) bool
}

// followEvery is how often a follower is asked: a stream to one that was the
// leader works, if by a detour, so there is no hurry.
const followEvery = 10 * time.Second

func newKeeper(lease pb.LeaseClient) *keeper {
	return &keeper{
		lease:   lease,
		follow:  followEvery,
		waiting: make(map[clientv3.LeaseID][]chan int64),
		wake:    make(chan struct{}, 1),
	}
}

// renew renews the lease and returns its time to live, or zero if etcd has no
// such lease (any more).
func (k *keeper) renew(ctx context.Context, id clientv3.LeaseID) (time.Duration, error) {
	answer := make(chan int64, 1)
	k.enqueue(id, answer)
	select {
	case ttl := <-answer:
		return time.Duration(ttl) * time.Second, nil
	case <-ctx.Done():
		k.forget(id, answer)
		return 0, fail(ctx, "renew lease", ctx.Err())
	}
}

func (k *keeper) enqueue(id clientv3.LeaseID, answer chan int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting[id]) == 0 {
		k.unsent = append(k.unsent, id)
		k.signal()
	}
	k.waiting[id] = append(k.waiting[id], answer)
}

func (k *keeper) signal() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// forget drops a caller that stopped waiting, so that what is kept is bounded
// by the callers there are.
func (k *keeper) forget(id clientv3.LeaseID, answer chan int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	chans := k.waiting[id]
	for i, c := range chans {
		if c == answer {
			chans = append(chans[:i:i], chans[i+1:]...)
			break
		}
	}
	if len(chans) == 0 {
		delete(k.waiting, id)
		return
	}
	k.waiting[id] = chans
}

func (k *keeper) answered(id clientv3.LeaseID, ttl int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.waiting[id] {
		c <- ttl // has room for the one answer it gets
	}
	delete(k.waiting, id)
}

// take returns what is to be sent next.
func (k *keeper) take() []clientv3.LeaseID {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := k.unsent
	k.unsent = nil
	return ids
}

// requeue makes everything that is waiting be sent again.
func (k *keeper) requeue() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unsent = k.unsent[:0]
	for id := range k.waiting {
		k.unsent = append(k.unsent, id)
	}
	if len(k.unsent) > 0 {
		k.signal()
	}
}

// run keeps a stream open until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		start := time.Now()
		_ = k.stream(ctx) // callers that wait too long for the next one report it
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(start) > time.Second {
			attempt = 1
		}
		if err := sleep(ctx, backoff(attempt)); err != nil {
			return err
		}
	}
}

// stream opens one stream and works it until it breaks.
func (k *keeper) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := k.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return fmt.Errorf("open keep-alive stream: %w", err)
	}
	k.requeue()
	received := make(chan error, 1)
	go func() {
		defer cancel()
		received <- k.receive(stream)
	}()
	err = k.send(ctx, stream)
	cancel()
	if rerr := <-received; err == nil || ctx.Err() != nil {
		return rerr
	}
	return err
}

func (k *keeper) send(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient) error {
	check := time.NewTicker(k.follow)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-check.C:
			if f, ok := k.lease.(follower); ok && f.Moved(ctx) {
				return nil
			}
		case <-k.wake:
			for _, id := range k.take() {
				if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
					return err
				}
			}
		}
	}
}

func (k *keeper) receive(stream pb.Lease_LeaseKeepAliveClient) error {
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		k.answered(clientv3.LeaseID(resp.ID), resp.TTL)
	}
}
