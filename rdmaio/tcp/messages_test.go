package tcp

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

func someSeals() []format.Seal {
	return []format.Seal{{Epoch: 1, Nonce: 2, T: 64, Prev: 3, SetVersion: 4}, {Epoch: 5, Nonce: 6, T: 128, Prev: 7, SetVersion: 8}}
}

func someReport() format.Report {
	return format.Report{
		Fenced:   format.Fence{Epoch: 9, Nonce: 10},
		Trim:     format.TrimPoint{LSN: 64, Epoch: 1, CRC: 77},
		Tail:     640,
		Durable:  639,
		Last:     format.Position{Epoch: 5, LSN: 640},
		Pairs:    []format.Pair{{Fence: format.Fence{Epoch: 1, Nonce: 2}, First: 64, Known: true}, {Fence: format.Fence{Epoch: 5}, First: 128}},
		Evidence: format.Position{Epoch: 6, LSN: 700},
		Commit:   600,
		Records:  11,
		Set:      []format.ID{{1}, {2}, {3}},
		Seals:    someSeals(),
		Capacity: 1 << 20,
	}
}

func someInfo() rdmaio.Info {
	return rdmaio.Info{
		Slot: format.Slot{Generation: 3, Log: format.ID{2}, Capacity: 1 << 20, Seals: someSeals(), Set: []format.ID{{4}}},
		Tail: 640, Durable: 128, Scanned: true, Media: "file", Failure: "medium: input/output error",
	}
}

func someSeal() rdmaio.SealIn {
	return rdmaio.SealIn{Seals: someSeals(), Set: []format.ID{{1}, {2}}, Hint: format.Position{Epoch: 5, LSN: 640}, Tail: 640}
}

func TestALongHistoryKeepsItsNewestPairs(t *testing.T) {
	t.Parallel()
	r := someReport()
	r.Pairs = nil
	for i := range uint64(maxPairs + 50) {
		r.Pairs = append(r.Pairs, format.Pair{Fence: format.Fence{Epoch: i + 1}, First: i * 64, Known: i%2 == 0})
	}
	b, err := encodeReport(&r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeReport(b)
	if err != nil || !reflect.DeepEqual(got.Pairs, r.Pairs[50:]) {
		t.Errorf("%d pairs arrived, %v; want the newest %d of %d", len(got.Pairs), err, maxPairs, len(r.Pairs))
	}
	before, _ := format.Agreement(r.Pairs, 1<<20, r.Pairs, 1<<20)
	after, ok := format.Agreement(got.Pairs, 1<<20, r.Pairs, 1<<20)
	if !ok || before != after {
		t.Errorf("agreement at %d with all pairs, at %d, %v with those that were sent", before, after, ok)
	}
}

func TestTheLargestMessagesFit(t *testing.T) {
	t.Parallel()
	r, i, s := someReport(), someInfo(), someSeal()
	r.Pairs = make([]format.Pair, maxPairs)
	r.Set, r.Seals = make([]format.ID, format.MaxReplicas), make([]format.Seal, format.MaxSeals)
	i.Slot.Seals, i.Slot.Set = r.Seals, r.Set
	i.Failure, i.Media = strings.Repeat("x", 5000), strings.Repeat("x", 5000)
	s.Seals, s.Set = r.Seals, r.Set
	for name, encode := range map[string]func() ([]byte, error){
		"Report": func() ([]byte, error) { return encodeReport(&r) },
		"State":  func() ([]byte, error) { return encodeInfo(&i) },
		"Seal":   func() ([]byte, error) { return encodeSeal(&s) },
		"Reseal": func() ([]byte, error) {
			b, err := encodeReseal(r.Set)
			if len(b) != resealBody {
				t.Errorf("Reseal has %d bytes at most, not %d", len(b), resealBody)
			}
			return b, err
		},
		"Hello": func() ([]byte, error) {
			return encodeHello(&hello{Hello: rdmaio.Hello{Grant: strings.Repeat("x", maxGrant)}})
		},
		"Error": func() ([]byte, error) {
			return encodeError(&rdmaio.Error{Kind: rdmaio.ErrMedium, Detail: strings.Repeat("ü", 5000)}), nil
		},
	} {
		if b, err := encode(); err != nil || len(b) > maxSmall {
			t.Errorf("%s: %d bytes, %v, at most %d fit", name, len(b), err, maxSmall)
		}
	}
	if _, err := encodeHello(&hello{Hello: rdmaio.Hello{Grant: strings.Repeat("x", maxGrant+1)}}); !errors.Is(err, rdmaio.ErrGrant) {
		t.Errorf("a grant that is too long: %v", err)
	}
	s.Seals = make([]format.Seal, format.MaxSeals+1)
	if _, err := encodeSeal(&s); !errors.Is(err, rdmaio.ErrRange) {
		t.Errorf("too many seals: %v", err)
	}
}

func TestMessagesSayWhatIsWrongWithThem(t *testing.T) {
	t.Parallel()
	good, err := encodeHello(&hello{lowest: version, highest: version, Hello: someHello()})
	if err != nil {
		t.Fatal(err)
	}
	flags := append([]byte(nil), good...)
	flags[80] = 4
	future := append([]byte(nil), good...)
	future[0], future[4] = 2, 9
	report := someReport()
	pairs, err := encodeReport(&report)
	if err != nil {
		t.Fatal(err)
	}
	known := append([]byte(nil), pairs...)
	known[16+20+8+8+16+16+8+8+8+1+24] = 2
	in := someSeal()
	unused, err := encodeSeal(&in)
	if err != nil {
		t.Fatal(err)
	}
	unused[len(unused)-format.SealSize+28] = 1
	for want, decode := range map[string]func() error{
		"rdmaio: malformed frame: Seal: seals have something where zeroes must be": func() error {
			_, err := decodeSeal(0, unused)
			return err
		},
		"rdmaio: malformed frame: Reseal: set are too many": func() error {
			_, err := decodeReseal([]byte{format.MaxReplicas + 1})
			return err
		},
		"rdmaio: malformed frame: Reseal: set is cut off":   func() error { _, err := decodeReseal([]byte{1, 2}); return err },
		"rdmaio: malformed frame: Hello: grant is cut off":  func() error { _, _, err := decodeHello(good[:len(good)-1], ours()); return err },
		"rdmaio: malformed frame: Hello: 1 bytes too many":  func() error { _, _, err := decodeHello(append(good[:len(good):len(good)], 0), ours()); return err },
		"rdmaio: malformed frame: Hello: flags are unknown": func() error { _, _, err := decodeHello(flags, ours()); return err },
		"rdmaio: no common protocol version: protocol versions 2 to 9 are offered, this program speaks version 1; upgrade the older of the two": func() error {
			_, _, err := decodeHello(future, ours())
			return err
		},
		"rdmaio: malformed frame: Report: pair is neither 0 nor 1": func() error { _, err := decodeReport(known); return err },
		"rdmaio: malformed frame: Read: length is more than one answer may carry": func() error {
			_, err := decodeRead([]byte{0, 0, 0, 1})
			return err
		},
	} {
		if err := decode(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestErrorsTravel(t *testing.T) {
	t.Parallel()
	for _, kind := range []error{
		rdmaio.ErrVersion, rdmaio.ErrFenced, rdmaio.ErrReplicaMissing, rdmaio.ErrBusy, rdmaio.ErrLost, rdmaio.ErrInternal,
	} {
		sent := fmt.Errorf("somewhere: %w", kind)
		got := decodeError(encodeError(rdmaio.AsError(sent)))
		if !errors.Is(got, kind) || got.Error() != kind.Error()+": "+sent.Error() {
			t.Errorf("%v arrived as %v", sent, got)
		}
	}
	sent := &rdmaio.Error{Kind: rdmaio.ErrFenced, Detail: "by another", Fenced: format.Fence{Epoch: 7, Nonce: 8}}
	var got *rdmaio.Error
	if err := decodeError(encodeError(sent)); !errors.As(err, &got) || !reflect.DeepEqual(got, sent) {
		t.Errorf("%#v arrived as %#v", sent, got)
	}
}
