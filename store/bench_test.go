package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

func benchDaemons(b *testing.B, n int) []string {
	b.Helper()
	ids := make([]string, n)
	for i := range ids {
		p := ports.Add(1)
		ids[i] = fmt.Sprint("bench-", p)
		if _, err := shared.store.Register(context.Background(), RegisterRequest{
			DaemonID: ids[i], PoolID: uuid.NewString(), Incarnation: 1,
			Addresses: Addresses{TCPAddr: "127.0.0.1", TCPPort: int(10000 + p)},
			Capacity:  MaxBytes, Free: MaxBytes, Media: "file", Transports: []string{"tcp"}, LeaseTTL: time.Hour,
		}); err != nil {
			b.Fatal(err)
		}
	}
	return ids
}

func BenchmarkHeartbeat(b *testing.B) {
	id := benchDaemons(b, 1)[0]
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := shared.store.Heartbeat(context.Background(), HeartbeatRequest{
				DaemonID: id, Incarnation: 1, Free: MaxBytes,
			}); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkCreateLog(b *testing.B) {
	ids := benchDaemons(b, 3)
	for b.Loop() {
		if _, err := shared.store.CreateLog(context.Background(), CreateLogRequest{
			Name: fmt.Sprint("bench-", ports.Add(1)), Daemons: ids, AckQuorum: 2, CapacityBytes: 1 << 20,
		}); err != nil {
			b.Fatal(err)
		}
	}
}
