package pmemlog_test

import (
	"errors"
	"math"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// FuzzInspect examines pools like those of FuzzOpen. It must say of each what an
// open, and a fence of each replica, find; and write nothing.
func FuzzInspect(f *testing.F) {
	good := goodPool(f)
	addPools(f, good)
	f.Fuzz(func(t *testing.T, b []byte, at int, patch bool) {
		if image := fuzzedPool(good, b, at, patch); image != nil {
			compareWithOpen(t, image)
		}
	})
}

// compareWithOpen examines a pool of the given bytes and opens a copy of it.
func compareWithOpen(t *testing.T, image []byte) {
	t.Helper()
	m := pmemtest.Of(image, pmemtest.Options{Log: true})
	p, openErr := pmemlog.Open(pmemtest.Of(image, pmemtest.Options{}))
	if openErr == nil {
		defer p.Close()
	}
	i, err := pmemlog.Inspect(t.Context(), m)
	if refused := err != nil || i.Refused != nil; refused != (openErr != nil) {
		t.Errorf("Open says %v, the examination %v, %+v", openErr, err, i)
	}
	if err != nil {
		return
	}
	views := examineAll(t, i)
	if n := len(m.Events()); n != 0 {
		t.Errorf("the examination wrote or synced %d times", n)
	}
	if openErr != nil {
		return
	}
	if i.Identity != p.Identity() || i.Space != p.Free() || len(i.Regions) != len(p.Replicas()) {
		t.Errorf("the pool says %+v, %+v, %d replicas; the examination %+v, %+v, %d",
			p.Identity(), p.Free(), len(p.Replicas()), i.Identity, i.Space, len(i.Regions))
	}
	for _, v := range views {
		compareWithFence(t, p, &v)
	}
}

// examineAll looks at all there is.
func examineAll(t *testing.T, i *pmemlog.Inspection) []pmemlog.ReplicaView {
	t.Helper()
	var views []pmemlog.ReplicaView
	for _, r := range i.Regions {
		i.Header(r)
		records, beyond := uint64(0), uint64(0)
		v := get[pmemlog.ReplicaView](t)(i.Replica(t.Context(), r, pmemlog.Visit{
			Record: func(h format.Header, _ []byte) error {
				if h.Kind == format.KindData {
					records++
				}
				return nil
			},
			Beyond: func(format.Header) { beyond++ },
		}))
		if v.Scanned && (records != v.Scan.Records || beyond != v.Scan.Beyond) {
			t.Errorf("visited %d records and %d beyond, counted %d and %d", records, beyond, v.Scan.Records, v.Scan.Beyond)
		}
		if (v.Err != nil || v.Suspect()) && !v.Damaged() {
			t.Errorf("no finding says why: %v, suspect %v", v.Err, v.Suspect())
		}
		views = append(views, v)
	}
	must(t, i.Forgotten(t.Context(), func(f pmemlog.Forgotten) {
		if !f.Replica.IsZero() {
			get[pmemlog.ReplicaView](t)(i.Replica(t.Context(), f.Region, pmemlog.Visit{}))
		}
	}))
	return views
}

func compareWithFence(t *testing.T, p *pmemlog.Pool, v *pmemlog.ReplicaView) {
	t.Helper()
	r, err := p.Replica(v.Replica)
	if err != nil {
		if v.Err == nil {
			t.Errorf("replica %s: the pool says %v, the examination nothing", v.Replica, err)
		}
		return
	}
	epoch := r.Info().Slot.Fenced.Epoch
	if epoch == math.MaxUint64 {
		return
	}
	rep, err := r.Attach(false).Fence(format.Fence{Epoch: epoch + 1, Nonce: 1})
	switch {
	case err != nil:
		if v.Err == nil || !errors.Is(err, pmemlog.ErrVersion) {
			t.Errorf("replica %s: the fence says %v, the examination %v", v.Replica, err, v.Err)
		}
	case v.Err != nil:
		t.Errorf("replica %s can be fenced, the examination says %v", v.Replica, v.Err)
	case rep.Tail != v.Scan.Chain.LSN || rep.Records != v.Scan.Records || rep.Evidence != v.Scan.Evidence || rep.Suspect() != v.Suspect():
		t.Errorf("replica %s: the fence says %+v, the examination %+v", v.Replica, rep, v.Scan)
	}
}
