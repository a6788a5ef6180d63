package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// poolDumpFlags are the flags of `pool dump`.
type poolDumpFlags struct {
	from    uint64
	records uint64
	payload bool
}

// previewBytes is how much of a payload is shown.
const previewBytes = 64

func newPoolDump(a *app) *cobra.Command {
	var fl poolDumpFlags
	cmd := &cobra.Command{
		Use:   "dump PATH [REPLICA]",
		Short: "Show headers and records of replicas as they lie in a pool",
		Long: `Show what lies in a pool for a replica, or for all of them: both header slots,
both hint lines, the seals, then each record on a line; behind the last one, why
there is no further one, and which records are found beyond that.

With -o json each replica is an object with the key replica, then one with record
for each record, one with beyond for each that is found behind the end, and one
with end, each on a line of its own.`,
		Example: `  graven pool dump /var/lib/graven
  graven pool dump ./graven-data/d1 4f1c --from 1048576 --records 20 --payload
  graven pool dump ./graven-data/d1 -o json | jq -c 'select(.record) | .record.lsn'`,
		Args: exactly("PATH", "[REPLICA]"),
	}
	f := cmd.Flags()
	f.Uint64Var(&fl.from, "from", 0, "first `LSN` to list records of")
	f.Uint64Var(&fl.records, "records", 0, "list `N` records at most; the rest is read, too (default all)")
	f.BoolVar(&fl.payload, "payload", false, fmt.Sprintf("show the first %d bytes of each payload", previewBytes))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withPool(cmd.Context(), args[0], func(v *poolView) error {
			regions := v.Regions
			if len(args) > 1 {
				var err error
				if regions, err = v.find(cmd.Context(), args[1], wanted{space: true}); err != nil {
					return err
				}
			}
			if len(regions) == 0 {
				note(a.err, "note: the pool has no replicas")
			}
			out := bufio.NewWriterSize(a.out, 64<<10)
			for n, r := range regions {
				if err := a.dump(cmd.Context(), v, r, fl, out, n == 0); err != nil {
					return errors.Join(err, out.Flush())
				}
			}
			return out.Flush()
		})
	}
	return cmd
}

// dumper prints one replica, as text or as JSON.
type dumper interface {
	replica(r *dumpReplica)
	record(r *dumpRecord)
	beyond(r *dumpRecord)
	end(e *dumpEnd)
}

func (a *app) dump(ctx context.Context, v *poolView, r pmemlog.Region, fl poolDumpFlags, out *bufio.Writer, first bool) error {
	var d dumper = &dumpText{out: out, first: first}
	if a.output == outputJSON {
		d = dumpJSON{json.NewEncoder(out)}
	}
	header := v.Header(r)
	d.replica(dumpOf(&header))
	listed, left := uint64(0), uint64(0)
	view, err := v.Replica(ctx, r, pmemlog.Visit{
		Record: func(h format.Header, payload []byte) error {
			switch {
			case h.LSN < fl.from:
			case fl.records > 0 && listed >= fl.records:
				left++
			default:
				listed++
				d.record(recordOf(&h, payload, fl.payload))
			}
			return nil
		},
		Beyond: func(h format.Header) { d.beyond(recordOf(&h, nil, false)) },
	})
	if err != nil {
		return err
	}
	d.end(endOf(&view, left))
	return nil
}

// dumpReplica is a replica's header.
type dumpReplica struct {
	poolReplica
	Slots []dumpSlot `json:"header_slots"`
	Lines []dumpLine `json:"hint_lines"`
	Set   []string   `json:"set"` // replicas of the newest seal
	Seals []dumpSeal `json:"seals"`
}

type dumpSlot struct {
	Counts     bool   `json:"counts"`
	Generation uint64 `json:"generation"`
	Fenced     string `json:"fenced"` // epoch/nonce
	Trim       string `json:"trim"`   // epoch/LSN
	TrimCRC    string `json:"trim_crc"`
	Hint       string `json:"hint"` // epoch/LSN
	Seals      int    `json:"seals"`
	Error      string `json:"error,omitempty"` // then nothing else is known
}

type dumpLine struct {
	Counts     bool   `json:"counts"`
	Generation uint64 `json:"generation"` // of the header that it belongs to
	Sequence   uint64 `json:"sequence"`
	Hint       string `json:"hint"` // epoch/LSN
	Error      string `json:"error,omitempty"`
}

type dumpSeal struct {
	Epoch      uint64 `json:"epoch"`
	Nonce      string `json:"nonce"`
	LSN        uint64 `json:"lsn"` // where the epoch began
	Prev       string `json:"prev_crc"`
	SetVersion uint64 `json:"set_version"`
}

type dumpRecord struct {
	LSN     uint64 `json:"lsn"`
	Size    uint64 `json:"size_bytes"` // in the ring
	Payload uint32 `json:"payload_bytes"`
	Kind    string `json:"kind"` // data, pad, or a number
	Epoch   uint64 `json:"epoch"`
	Commit  uint64 `json:"commit_lsn"`
	Prev    string `json:"prev_crc"`
	CRC     string `json:"crc"`
	Meta    string `json:"meta"`              // hexadecimal; empty for zeroes
	Preview string `json:"preview,omitempty"` // of the payload, hexadecimal
	preview []byte
}

type dumpEnd struct {
	ReplicaID string      `json:"replica_id"`
	State     string      `json:"state"`
	LSN       uint64      `json:"lsn"`
	Stop      string      `json:"stop"` // why there is no record
	NotListed uint64      `json:"records_not_listed"`
	Beyond    uint64      `json:"records_beyond"`
	Evidence  string      `json:"evidence"`
	Suspect   bool        `json:"suspect"`
	Error     string      `json:"error,omitempty"`
	Pairs     []dumpEpoch `json:"epochs"`
}

type dumpEpoch struct {
	Epoch uint64 `json:"epoch"`
	Nonce string `json:"nonce,omitempty"` // empty when the replica has forgotten it
	First uint64 `json:"first_lsn"`
}

func dumpOf(v *pmemlog.ReplicaView) *dumpReplica {
	d := &dumpReplica{poolReplica: replicaOf(v), Set: []string{}, Seals: []dumpSeal{}}
	for n := range v.Slots {
		d.Slots = append(d.Slots, slotOf(v, n))
	}
	for n := range v.Lines {
		d.Lines = append(d.Lines, lineOf(v, n))
	}
	for _, id := range v.Slot.Set {
		d.Set = append(d.Set, id.String())
	}
	for _, s := range v.Slot.Seals {
		d.Seals = append(d.Seals, dumpSeal{Epoch: s.Epoch, Nonce: nonceText(s.Nonce), LSN: s.T, Prev: crcText(s.Prev), SetVersion: s.SetVersion})
	}
	return d
}

func slotOf(v *pmemlog.ReplicaView, n int) dumpSlot {
	s := &v.Slots[n]
	if s.Err != nil || s.Blank {
		return dumpSlot{Error: absence(s.Blank, s.Err)}
	}
	return dumpSlot{
		Counts: v.Readable && n == v.SlotAt, Generation: s.Slot.Generation,
		Fenced: fmt.Sprintf("%d/%s", s.Slot.Fenced.Epoch, nonceText(s.Slot.Fenced.Nonce)),
		Trim:   s.Slot.Trim.Position().String(), TrimCRC: crcText(s.Slot.Trim.CRC), Hint: s.Slot.Hint.String(), Seals: len(s.Slot.Seals),
	}
}

func lineOf(v *pmemlog.ReplicaView, n int) dumpLine {
	l := &v.Lines[n]
	if l.Err != nil || l.Blank {
		return dumpLine{Error: absence(l.Blank, l.Err)}
	}
	return dumpLine{
		Counts: l.Counts, Generation: l.Line.Generation, Sequence: l.Line.Sequence, Hint: l.Line.Hint.String(),
	}
}

func absence(blank bool, err error) string {
	if blank || err == nil {
		return "blank: never written"
	}
	return err.Error()
}

func crcText(crc uint32) string { return fmt.Sprintf("%08x", crc) }

func recordOf(h *format.Header, payload []byte, preview bool) *dumpRecord {
	r := &dumpRecord{
		LSN: h.LSN, Size: h.Size(), Payload: h.Length, Kind: kindText(h.Kind), Epoch: h.Epoch, Commit: h.Commit,
		Prev: crcText(h.Prev), CRC: crcText(h.CRC), Meta: metaText(h.Meta),
	}
	if preview {
		r.preview = payload[:min(len(payload), previewBytes)]
		r.Preview = hex.EncodeToString(r.preview)
	}
	return r
}

func kindText(k format.Kind) string {
	switch k {
	case format.KindData:
		return "data"
	case format.KindPad:
		return "pad"
	default:
		return fmt.Sprint(uint8(k))
	}
}

func endOf(v *pmemlog.ReplicaView, left uint64) *dumpEnd {
	e := &dumpEnd{ReplicaID: v.Replica.String(), State: poolState(v), NotListed: left, Suspect: v.Suspect(), Pairs: []dumpEpoch{}}
	if v.Err != nil {
		e.Error = v.Err.Error()
	}
	if !v.Readable {
		return e
	}
	e.LSN, e.Beyond, e.Evidence = v.Scan.Chain.LSN, v.Scan.Beyond, v.Scan.Evidence.String()
	if v.Scan.Stop != nil {
		e.Stop = v.Scan.Stop.Error()
	}
	for _, p := range v.Scan.Pairs {
		epoch := dumpEpoch{Epoch: p.Epoch, First: p.First}
		if p.Known {
			epoch.Nonce = nonceText(p.Nonce)
		}
		e.Pairs = append(e.Pairs, epoch)
	}
	return e
}

// dumpJSON prints each thing as an object on a line. What it can't write, the
// buffer behind it tells at its end.
type dumpJSON struct{ *json.Encoder }

func (d dumpJSON) put(key string, v any)  { _ = d.Encode(map[string]any{key: v}) }
func (d dumpJSON) replica(r *dumpReplica) { d.put("replica", r) }
func (d dumpJSON) record(r *dumpRecord)   { d.put("record", r) }
func (d dumpJSON) beyond(r *dumpRecord)   { d.put("beyond", r) }
func (d dumpJSON) end(e *dumpEnd)         { d.put("end", e) }

// dumpText prints for people. Columns have fixed widths: a log may have more
// records than could be kept to find the widest.
type dumpText struct {
	out     *bufio.Writer
	first   bool
	headed  bool
	further bool // records beyond the end have been printed
}

func (d *dumpText) line(key, format string, args ...any) {
	fmt.Fprintf(d.out, "%-14s %s\n", key, fmt.Sprintf(format, args...))
}

func (d *dumpText) replica(r *dumpReplica) {
	if !d.first {
		fmt.Fprintln(d.out)
	}
	d.line("replica", "%s of log %s, cluster %s", r.ReplicaID, r.LogID, r.ClusterID)
	d.line("region", "at byte %d, ring of %s at byte %d", r.Offset, exactSize(int64(r.Capacity)), r.Offset+format.RingOffset)
	for n, s := range r.Slots {
		key := "header slot " + string(rune('A'+n))
		if s.Error != "" {
			d.line(key, "%s", s.Error)
			continue
		}
		d.line(key, "generation %d%s: fenced %s, trim %s (crc %s), hint %s, %s",
			s.Generation, countsText(s.Counts), s.Fenced, s.Trim, s.TrimCRC, s.Hint, count(uint64(s.Seals), "seal"))
	}
	for n, l := range r.Lines {
		key := "hint line " + string(rune('A'+n))
		if l.Error != "" {
			d.line(key, "%s", l.Error)
			continue
		}
		d.line(key, "generation %d, sequence %d%s: hint %s", l.Generation, l.Sequence, countsText(l.Counts), l.Hint)
	}
	if len(r.Set) > 0 {
		d.line("replica set", "%s", strings.Join(r.Set, ", "))
	}
	for _, s := range r.Seals {
		d.line("seal", "epoch %d nonce %s from LSN %d on, behind crc %s, replica set version %d", s.Epoch, s.Nonce, s.LSN, s.Prev, s.SetVersion)
	}
}

func countsText(counts bool) string {
	if counts {
		return ", counts"
	}
	return ""
}

const dumpColumns = "%-14s %-7s %-7s %-4s %-5s %-14s %-8s %-8s %s\n"

func (d *dumpText) record(r *dumpRecord) {
	if !d.headed {
		d.headed = true
		fmt.Fprintln(d.out)
		fmt.Fprintf(d.out, dumpColumns, "LSN", "SIZE", "PAYLOAD", "KIND", "EPOCH", "COMMIT", "PREV", "CRC", "META")
	}
	fmt.Fprintf(d.out, dumpColumns, fmt.Sprint(r.LSN), fmt.Sprint(r.Size), fmt.Sprint(r.Payload), r.Kind, fmt.Sprint(r.Epoch),
		fmt.Sprint(r.Commit), r.Prev, r.CRC, cmp.Or(r.Meta, "-"))
	if len(r.preview) > 0 {
		for _, l := range strings.Split(strings.TrimRight(hex.Dump(r.preview), "\n"), "\n") {
			fmt.Fprintf(d.out, "    %s\n", l)
		}
	}
}

func (d *dumpText) beyond(r *dumpRecord) {
	if !d.further {
		d.further, d.headed = true, false
		fmt.Fprintln(d.out, "\nbehind the end, no part of the log:")
	}
	d.record(r)
}

func (d *dumpText) end(e *dumpEnd) {
	if d.headed {
		fmt.Fprintln(d.out)
	}
	if e.NotListed > 0 {
		d.line("not listed", "%s", count(e.NotListed, "further record"))
	}
	if e.Stop != "" {
		d.line("ends", "at LSN %d: %s", e.LSN, e.Stop)
	}
	if e.Beyond > 0 {
		d.line("beyond", "%s behind the end", count(e.Beyond, "whole record"))
	}
	for n, p := range e.Pairs {
		if n+1 < len(e.Pairs) && e.Pairs[n+1].First == p.First {
			continue // nothing was written in it
		}
		d.line("epoch", "%d from LSN %d on, nonce %s", p.Epoch, p.First, cmp.Or(p.Nonce, "forgotten"))
	}
	state := e.State
	if e.Suspect {
		state += ": it must once have held " + e.Evidence
	}
	if e.Error != "" {
		state += ": " + e.Error
	}
	d.line("state", "%s", state)
}
