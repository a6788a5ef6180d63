package tcp

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"go.uber.org/goleak"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func someHello() rdmaio.Hello {
	return rdmaio.Hello{
		Cluster: format.ID{1}, Log: format.ID{2}, Replica: format.ID{3},
		Term: format.Fence{Epoch: 4, Nonce: 5}, Capacity: 1 << 20, Create: true, Grant: "signed",
	}
}

func TestHelloAndWelcome(t *testing.T) {
	t.Parallel()
	host := newFakeHost(1 << 20)
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	if got := host.greeted(); got != someHello() {
		t.Errorf("the host was told %+v", got)
	}
	want := rdmaio.Welcome{Daemon: "d1", Pool: format.ID{7}, Media: "volatile", FlushMode: "ack", Created: true}
	if p.welcome != want {
		t.Errorf("welcome %+v, want %+v", p.welcome, want)
	}
}

func TestPostsArriveInOrderAndAreFlushed(t *testing.T) {
	t.Parallel()
	for _, cheap := range []bool{true, false} {
		host := newFakeHost(1 << 20)
		host.cheap = cheap
		p := dial(t, serve(t, host, quiet()), someHello(), quiet())
		l := newLog(1 << 20)
		for i := range 200 {
			lsn, segs := l.add(i * 10)
			if err := p.Post(lsn, segs); err != nil {
				t.Fatal(err)
			}
		}
		p.durable(l.chain.LSN)
		if !bytes.Equal(host.bytes(), l.ring) {
			t.Errorf("cheap %v: the replica holds other bytes than were posted", cheap)
		}
	}
}

func TestEveryRequest(t *testing.T) {
	t.Parallel()
	host := newFakeHost(1 << 20)
	host.report, host.info = someReport(), someInfo()
	p := dial(t, serve(t, host, quiet()), someHello(), quiet())
	report, err := p.Fence(t.Context())
	if err != nil || !reflect.DeepEqual(report, host.report) {
		t.Errorf("Fence: %+v, %v, want %+v", report, err, host.report)
	}
	info, err := p.Info(t.Context())
	if err != nil || !reflect.DeepEqual(info, host.info) {
		t.Errorf("Info: %+v, %v, want %+v", info, err, host.info)
	}
	at := format.TrimPoint{LSN: 64, Epoch: 3, CRC: 9}
	err = errors.Join(
		p.Align(t.Context(), 640), p.Reset(t.Context(), at), p.Trim(t.Context(), at), p.Seal(t.Context(), someSeal()))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"fence", "align 640 durable 0", "reset {64 3 9}", "trim {64 3 9}"}
	got := host.called()
	if len(got) != 5 || !reflect.DeepEqual(got[:4], want) {
		t.Errorf("the target saw %q", got)
	}
}
