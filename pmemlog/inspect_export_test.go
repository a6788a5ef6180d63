package pmemlog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// exportedRecord is the size of a record of exportedPool, in bytes.
const exportedRecord = 704

// exportedPool returns a pool whose replica has been trimmed, begins with a pad
// and has wrapped around, with the LSNs and payloads of its records.
func exportedPool(t *testing.T) (image []byte, lsns []uint64, payloads [][]byte) {
	t.Helper()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for n := range 9 {
		if n == 5 {
			w.flush()
			must(t, w.s.Trim(w.point()))
			w.trim, lsns, payloads = w.point(), nil, nil
		}
		w.append(exportedRecord - format.HeaderSize)
		lsn := w.chain.LSN - exportedRecord
		lsns, payloads = append(lsns, lsn), append(payloads, bytes.Clone(w.ring.At(lsn, exportedRecord)[format.HeaderSize:]))
	}
	w.flush()
	must(t, r.PersistHint())
	return m.Image(), lsns, payloads
}

func export(t *testing.T, image []byte, o pmemlog.ExportOptions) (string, pmemlog.Exported, error) {
	t.Helper()
	i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), pmemtest.Of(image, pmemtest.Options{})))
	var out bytes.Buffer
	res, err := i.Export(t.Context(), i.Regions[0], &out, o)
	return out.String(), res, err
}

func TestExport(t *testing.T) {
	t.Parallel()
	image, lsns, payloads := exportedPool(t)
	for n, from := range lsns {
		o := pmemlog.ExportOptions{From: from}
		if n == 0 {
			o.From = 0
		}
		got, res, err := export(t, image, o)
		if want := bytes.Join(payloads[n:], nil); err != nil || got != string(want) {
			t.Errorf("from %d: %d bytes, %v; want %d", o.From, len(got), err, len(want))
		}
		if int(res.Records) != len(lsns)-n || res.Bytes != int64(len(got)) || res.To != lsns[len(lsns)-1]+exportedRecord {
			t.Errorf("from %d: %+v", o.From, res)
		}
	}
	for _, bad := range []uint64{lsns[1] + 64, lsns[0] - 1024, lsns[len(lsns)-1] + 704 + 64} {
		if got, _, err := export(t, image, pmemlog.ExportOptions{From: bad}); !errors.Is(err, pmemlog.ErrRange) || got != "" {
			t.Errorf("from %d: %d bytes, %v", bad, len(got), err)
		}
	}
	if got, res, err := export(t, image, pmemlog.ExportOptions{From: lsns[len(lsns)-1] + 704}); err != nil || got != "" || res.Records != 0 {
		t.Errorf("from the tail: %d bytes, %+v, %v", len(got), res, err)
	}
}

// TestExportOfADoubtfulReplica: it writes nothing unless told that what there is
// will do.
func TestExportOfADoubtfulReplica(t *testing.T) {
	t.Parallel()
	image, lsns, payloads := exportedPool(t)
	flip(ringStart + int(lsns[2]%ringSize) + 100)(image)
	got, _, err := export(t, image, pmemlog.ExportOptions{})
	if !errors.Is(err, pmemlog.ErrDoubtful) || got != "" || !strings.Contains(err.Error(), "are missing") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	got, res, err := export(t, image, pmemlog.ExportOptions{Doubtful: true})
	if want := string(bytes.Join(payloads[:2], nil)); err != nil || got != want || res.Records != 2 || res.To != lsns[2] || !res.View.Suspect() {
		t.Errorf("%d bytes, %+v, %v; want %d", len(got), res, err, len(want))
	}

	image, _, _ = exportedPool(t)
	both(flip(regionStart+80), flip(regionStart+4096+80))(image)
	if got, _, err := export(t, image, pmemlog.ExportOptions{Doubtful: true}); !errors.Is(err, pmemlog.ErrCorrupt) || got != "" {
		t.Errorf("without a header: %d bytes, %v", len(got), err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestExportFailures(t *testing.T) {
	t.Parallel()
	image, _, _ := exportedPool(t)
	i := get[*pmemlog.Inspection](t)(pmemlog.Inspect(t.Context(), pmemtest.Of(image, pmemtest.Options{})))
	if _, err := i.Export(t.Context(), i.Regions[0], failing{}, pmemlog.ExportOptions{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("to a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Export(ctx, i.Regions[0], io.Discard, pmemlog.ExportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
