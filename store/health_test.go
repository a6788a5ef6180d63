package store

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestHealthOfMembers(t *testing.T) {
	t.Parallel()
	answer := func(size, quota int64, errs ...string) *clientv3.StatusResponse {
		return (*clientv3.StatusResponse)(&pb.StatusResponse{DbSize: size, DbSizeQuota: quota, Errors: errs})
	}
	for _, c := range []struct {
		answers []*clientv3.StatusResponse
		want    EtcdHealth
		nearly  bool
	}{
		{[]*clientv3.StatusResponse{answer(10, 100)}, EtcdHealth{DBBytes: 10, QuotaBytes: 100}, false},
		{[]*clientv3.StatusResponse{answer(10, 100), answer(80, 100)}, EtcdHealth{DBBytes: 80, QuotaBytes: 100}, true},
		{
			[]*clientv3.StatusResponse{answer(99, 100, "memberID:1 alarm:NOSPACE"), answer(1, 100)},
			EtcdHealth{NoSpace: true, DBBytes: 99, QuotaBytes: 100},
			true,
		},
		{[]*clientv3.StatusResponse{answer(0, 0, "memberID:1 alarm:CORRUPT ")}, EtcdHealth{Corrupt: true}, false},
	} {
		if got := healthOf(c.answers); got != c.want || got.NearlyFull() != c.nearly {
			t.Errorf("%+v: nearly full %v", got, got.NearlyFull())
		}
	}
	var s Store
	if s.Warning() != nil {
		t.Error("a warning of nothing")
	}
	s.health.set(EtcdHealth{NoSpace: true})
	if err := s.Warning(); !errors.Is(err, ErrNoSpace) {
		t.Error(err)
	}
}

// A running store knows how large etcd's database is.
func TestHealthIsAskedFor(t *testing.T) {
	t.Parallel()
	eventually(t, "the store has asked", func() bool { return shared.store.Health().DBBytes > 0 })
	if h := shared.store.Health(); h.QuotaBytes <= h.DBBytes || h.NoSpace || h.Corrupt {
		t.Errorf("%+v", h)
	}
}
