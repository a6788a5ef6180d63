package tcp

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/gravenio/graven/internal/golden"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// frozen is a frame as version 1 has it. read takes it apart again, which must
// give what want says.
type frozen struct {
	head header
	body []byte
	read func(h header, body []byte) (any, error)
	want any
}

func goldenID(first byte) format.ID {
	var id format.ID
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func goldenSeal() rdmaio.SealIn {
	return rdmaio.SealIn{
		Seals: []format.Seal{{Epoch: 0x0807060504030201, Nonce: 0x1817161514131211, T: 0x2827262524232221, Prev: 0x34333231, SetVersion: 0x4847464544434241}},
		Set:   []format.ID{goldenID(0x50), goldenID(0x60)},
		Hint:  format.Position{Epoch: 0x7877767574737271, LSN: 0x8887868584838281},
		Tail:  0x9897969594939291,
	}
}

func goldenReport() format.Report {
	return format.Report{
		Fenced: format.Fence{Epoch: 0x0807060504030201, Nonce: 0x1817161514131211},
		Trim:   format.TrimPoint{LSN: 0x2827262524232221, Epoch: 0x3837363534333231, CRC: 0x44434241},
		Tail:   0x5857565554535251, Durable: 0x6867666564636261,
		Last: format.Position{Epoch: 0x7877767574737271, LSN: 0x8887868584838281},
		Pairs: []format.Pair{
			{Fence: format.Fence{Epoch: 1, Nonce: 2}, First: 64, Known: true},
			{Fence: format.Fence{Epoch: 0xa8a7a6a5a4a3a2a1}, First: 0xb8b7b6b5b4b3b2b1},
		},
		Evidence: format.Position{Epoch: 0xc8c7c6c5c4c3c2c1, LSN: 0xd8d7d6d5d4d3d2d1},
		Commit:   0xe8e7e6e5e4e3e2e1, Records: 0xf8f7f6f5f4f3f2f1, Capacity: 1 << 20,
		Set: goldenSeal().Set, Seals: goldenSeal().Seals,
	}
}

func goldenInfo() rdmaio.Info {
	return rdmaio.Info{
		Slot: format.Slot{
			Generation: 0x0807060504030201, Cluster: goldenID(0x10), Log: goldenID(0x20), Replica: goldenID(0x30), Capacity: 1 << 20,
			Fenced: format.Fence{Epoch: 4, Nonce: 5}, Seals: goldenSeal().Seals, Set: goldenSeal().Set,
		},
		Tail: 0x5857565554535251, Durable: 0x6867666564636261, Scanned: true, Media: "file", Failure: "medium: input/output error",
	}
}

func goldenHello() hello {
	return hello{lowest: 1, highest: 1, Hello: rdmaio.Hello{
		Cluster: goldenID(0x10), Log: goldenID(0x20), Replica: goldenID(0x30),
		Term:     format.Fence{Epoch: 0x4847464544434241, Nonce: 0x5857565554535251},
		Capacity: 0x6867666564636261, Create: true, ReadOnly: true, Grant: "a signed grant",
	}}
}

func goldenRecords() []byte {
	ring, c := make(format.Ring, 4096), format.Chain{LSN: 1024, CRC: 0x04030201, Epoch: 0x1817161514131211}
	ring.Append(&c, 512, format.Record{Payload: []byte("a payload")})
	ring.Append(&c, 1024, format.Record{})
	return ring.At(1024, int(c.LSN-1024))
}

// goldenFrames has one frame of each type.
func goldenFrames(t *testing.T) map[kind]frozen {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bare := func(h header, _ []byte) (any, error) { return h.arg, nil }
	h, report, seal, info := goldenHello(), goldenReport(), goldenSeal(), goldenInfo()
	welcome := rdmaio.Welcome{Daemon: "daemon-1", Pool: goldenID(0x10), Media: "volatile", FlushMode: "ack", Version: 1, Created: true}
	refusal := &rdmaio.Error{Kind: rdmaio.ErrFenced, Detail: "by a newer writer", Fenced: format.Fence{Epoch: 0x0807060504030201, Nonce: 0x1817161514131211}}
	trim := format.TrimPoint{LSN: 0x0807060504030201, Epoch: 0x1817161514131211, CRC: 0x24232221}
	const arg = 0xa8a7a6a5a4a3a2a1
	return map[kind]frozen{
		kindHello: {header{}, must(encodeHello(&h)), func(_ header, b []byte) (any, error) {
			got, chosen, err := decodeHello(b, ours())
			if chosen != 1 {
				t.Errorf("version %d was chosen", chosen)
			}
			return got, err
		}, h},
		kindWelcome: {header{}, encodeWelcome(&welcome), func(_ header, b []byte) (any, error) { return decodeWelcome(b, ours()) }, welcome},
		kindFence:   {header{}, nil, bare, uint64(0)},
		kindReport:  {header{}, must(encodeReport(&report)), func(_ header, b []byte) (any, error) { return decodeReport(b) }, report},
		kindWrite:   {header{arg: 1024, flags: flagFlush}, goldenRecords(), func(_ header, b []byte) (any, error) { return b, nil }, goldenRecords()},
		kindFlush:   {header{}, nil, bare, uint64(0)},
		kindFlushed: {header{arg: arg}, nil, bare, uint64(arg)},
		kindRead:    {header{arg: arg}, le.AppendUint32(nil, maxBytes), func(_ header, b []byte) (any, error) { return decodeRead(b) }, maxBytes},
		kindBytes:   {header{}, []byte("bytes of the ring"), func(_ header, b []byte) (any, error) { return string(b), nil }, "bytes of the ring"},
		kindAlign:   {header{arg: arg}, nil, bare, uint64(arg)},
		kindReset:   {header{arg: trim.LSN}, appendTrim(nil, trim), func(h header, b []byte) (any, error) { return decodeTrim(h.arg, b) }, trim},
		kindSeal:    {header{arg: seal.Tail}, must(encodeSeal(&seal)), func(h header, b []byte) (any, error) { return decodeSeal(h.arg, b) }, seal},
		kindTrim:    {header{arg: trim.LSN}, appendTrim(nil, trim), func(h header, b []byte) (any, error) { return decodeTrim(h.arg, b) }, trim},
		kindDone:    {header{}, nil, bare, uint64(0)},
		kindInfo:    {header{}, nil, bare, uint64(0)},
		kindState:   {header{}, must(encodeInfo(&info)), func(_ header, b []byte) (any, error) { return decodeInfo(b) }, info},
		kindError: {header{}, encodeError(refusal), func(_ header, b []byte) (any, error) {
			var got *rdmaio.Error
			errors.As(decodeError(b), &got)
			return got, nil
		}, refusal},
		kindBusy:   {header{}, nil, bare, uint64(0)},
		kindReseal: {header{arg: arg}, must(encodeReseal(seal.Set)), func(_ header, b []byte) (any, error) { return decodeReseal(b) }, seal.Set},
	}
}

func TestGoldenFrames(t *testing.T) {
	t.Parallel()
	frames := goldenFrames(t)
	for k := kindHello; int(k) < len(kinds); k++ {
		f, ok := frames[k]
		if !ok {
			t.Errorf("%v has no golden file", k)
			continue
		}
		f.head.version, f.head.kind, f.head.id = version, k, 0x14131211
		if k == kindHello || k == kindWelcome {
			f.head.id = 0
		}
		file := golden.Check(t, "frame-"+strings.ToLower(k.String())+".v1", f.encode())
		rd := newReader(bytes.NewReader(file), kinds[k].from)
		rd.agreed = version
		h, body, err := rd.next()
		if err != nil || h.kind != k || h.id != f.head.id || h.flags != f.head.flags {
			t.Errorf("%v: %+v, %v", k, h, err)
			continue
		}
		if got, err := f.read(h, body); err != nil || !reflect.DeepEqual(got, f.want) {
			t.Errorf("%v: the file holds %+v, %v; want %+v", k, got, err, f.want)
		}
	}
}

// encode makes the frame as the sending side does.
func (f *frozen) encode() []byte {
	o := outgoing{head: f.head, body: f.body}
	o.head.length = uint32(len(f.body)) // of a Write; the rest is encode's business
	o.encode()
	return append(bytes.Clone(o.wire[:]), f.body...)
}
