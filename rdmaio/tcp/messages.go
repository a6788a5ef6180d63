package tcp

import (
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// Sizes of messages, in bytes.
const (
	helloFixed = 4 + 4 + 3*16 + 16 + 8 + 1 + 2
	readBody   = 4
	trimBody   = 8 + 4
	resealBody = 1 + format.MaxReplicas*16
)

// Flags of a Hello.
const (
	helloCreate   = 1 << 0
	helloReadOnly = 1 << 1
)

// hello is a Hello with the protocol versions that the client speaks.
type hello struct {
	lowest, highest uint32
	rdmaio.Hello
}

func encodeHello(h *hello) ([]byte, error) {
	if len(h.Grant) > maxGrant {
		return nil, refuse(rdmaio.ErrGrant, "the grant has %d bytes, at most %d are allowed", len(h.Grant), maxGrant)
	}
	b := le.AppendUint32(make([]byte, 0, helloFixed+len(h.Grant)), h.lowest)
	b = le.AppendUint32(b, h.highest)
	b = append(b, h.Cluster[:]...)
	b = append(b, h.Log[:]...)
	b = append(b, h.Replica[:]...)
	b = appendFence(b, h.Term)
	b = le.AppendUint64(b, h.Capacity)
	var flags byte
	if h.Create {
		flags |= helloCreate
	}
	if h.ReadOnly {
		flags |= helloReadOnly
	}
	b = append(b, flags)
	return append(le.AppendUint16(b, uint16(len(h.Grant))), h.Grant...), nil
}

// decodeHello reads the versions first and chooses one of them, since a client
// that this program has none in common with may have said the rest in a way
// that only it knows. One that speaks a later version, too, may have more to say
// behind what is known here.
func decodeHello(b []byte, speaks span) (hello, uint8, error) {
	d := decoder{b: b, name: "Hello"}
	h := hello{lowest: d.u32("versions"), highest: d.u32("versions")}
	if d.err != nil {
		return hello{}, 0, d.err
	}
	chosen, err := speaks.choose(h.lowest, h.highest)
	if err != nil {
		return hello{}, 0, err
	}
	h.Cluster, h.Log, h.Replica = d.id("cluster"), d.id("log"), d.id("replica")
	h.Term = d.fence("term")
	h.Capacity = d.u64("capacity")
	flags := d.u8("flags")
	if flags&^(helloCreate|helloReadOnly) != 0 {
		d.fail("flags", "are unknown")
	}
	h.Create, h.ReadOnly = flags&helloCreate != 0, flags&helloReadOnly != 0
	h.Grant = d.text("grant", maxGrant)
	if h.highest > uint32(speaks.highest) {
		d.b = nil
	}
	return h, chosen, d.end()
}

func encodeWelcome(w *rdmaio.Welcome) []byte {
	b := le.AppendUint32(nil, w.Version)
	b = append(b, w.Pool[:]...)
	b = appendBool(b, w.Created)
	b = appendText(b, w.Daemon)
	b = appendText(b, w.Media)
	return appendText(b, w.FlushMode)
}

// decodeWelcome reads the version first: it says how the rest is laid out.
func decodeWelcome(b []byte, offered span) (rdmaio.Welcome, error) {
	d := decoder{b: b, name: "Welcome"}
	w := rdmaio.Welcome{Version: d.u32("version")}
	if d.err != nil {
		return rdmaio.Welcome{}, d.err
	}
	if err := offered.check(w.Version); err != nil {
		return rdmaio.Welcome{}, err
	}
	w.Pool, w.Created = d.id("pool"), d.bool("created")
	w.Daemon, w.Media, w.FlushMode = d.text("daemon", maxText), d.text("media", maxText), d.text("flush mode", maxText)
	return w, d.end()
}

// encodeReport sends the newest maxPairs pairs of a longer history. What is
// dropped proves nothing any more, so at worst more is rewritten at alignment.
func encodeReport(r *format.Report) ([]byte, error) {
	if err := checkSet(r.Seals, r.Set); err != nil {
		return nil, err
	}
	b := appendFence(nil, r.Fenced)
	b = appendTrim(le.AppendUint64(b, r.Trim.LSN), r.Trim)
	b = le.AppendUint64(b, r.Tail)
	b = le.AppendUint64(b, r.Durable)
	b = appendPosition(b, r.Last)
	b = appendPosition(b, r.Evidence)
	b = le.AppendUint64(b, r.Commit)
	b = le.AppendUint64(b, r.Records)
	b = le.AppendUint64(b, r.Capacity)
	pairs := r.Pairs[max(0, len(r.Pairs)-maxPairs):]
	b = append(b, byte(len(pairs)))
	for _, p := range pairs {
		b = appendFence(b, p.Fence)
		b = appendBool(le.AppendUint64(b, p.First), p.Known)
	}
	return appendSeals(appendIDs(b, r.Set), r.Seals), nil
}

func decodeReport(b []byte) (format.Report, error) {
	d := decoder{b: b, name: "Report"}
	r := format.Report{
		Fenced:   d.fence("fence"),
		Trim:     d.trim(d.u64("trim")),
		Tail:     d.u64("tail"),
		Durable:  d.u64("durable"),
		Last:     d.position("last position"),
		Evidence: d.position("evidence"),
		Commit:   d.u64("commit"),
		Records:  d.u64("records"),
		Capacity: d.u64("capacity"),
	}
	for range d.count("pairs", maxPairs) {
		r.Pairs = append(r.Pairs, format.Pair{Fence: d.fence("pair"), First: d.u64("pair"), Known: d.bool("pair")})
	}
	r.Set, r.Seals = d.ids("set"), d.seals("seals")
	return r, d.end()
}

// appendTrim appends all of a trim point but its LSN, which Reset and Trim
// carry in the header.
func appendTrim(b []byte, t format.TrimPoint) []byte {
	return le.AppendUint32(le.AppendUint64(b, t.Epoch), t.CRC)
}

func (d *decoder) trim(lsn uint64) format.TrimPoint {
	return format.TrimPoint{LSN: lsn, Epoch: d.u64("trim"), CRC: d.u32("trim")}
}

func decodeTrim(lsn uint64, b []byte) (format.TrimPoint, error) {
	d := decoder{b: b, name: "trim point"}
	t := d.trim(lsn)
	return t, d.end()
}

func decodeRead(b []byte) (int, error) {
	d := decoder{b: b, name: "Read"}
	n := d.u32("length")
	if d.err == nil && n > maxBytes {
		d.fail("length", "is more than one answer may carry")
	}
	return int(n), d.end()
}

func encodeSeal(s *rdmaio.SealIn) ([]byte, error) {
	if err := checkSet(s.Seals, s.Set); err != nil {
		return nil, err
	}
	b := appendPosition(nil, s.Hint)
	return appendSeals(appendIDs(b, s.Set), s.Seals), nil
}

func decodeSeal(tail uint64, b []byte) (rdmaio.SealIn, error) {
	d := decoder{b: b, name: "Seal"}
	s := rdmaio.SealIn{Hint: d.position("hint"), Tail: tail}
	s.Set, s.Seals = d.ids("set"), d.seals("seals")
	return s, d.end()
}

func encodeReseal(set []format.ID) ([]byte, error) {
	if err := checkSet(nil, set); err != nil {
		return nil, err
	}
	return appendIDs(nil, set), nil
}

func decodeReseal(b []byte) ([]format.ID, error) {
	d := decoder{b: b, name: "Reseal"}
	set := d.ids("set")
	return set, d.end()
}

func encodeInfo(i *rdmaio.Info) ([]byte, error) {
	if err := checkSet(i.Slot.Seals, i.Slot.Set); err != nil {
		return nil, err
	}
	b := make([]byte, format.SlotSize)
	format.EncodeSlot(b, &i.Slot)
	b = le.AppendUint64(b, i.Tail)
	b = le.AppendUint64(b, i.Durable)
	b = appendBool(b, i.Scanned)
	return appendText(appendText(b, i.Media), i.Failure), nil
}

func decodeInfo(b []byte) (rdmaio.Info, error) {
	d := decoder{b: b, name: "State"}
	var i rdmaio.Info
	if slot := d.take(format.SlotSize, "header slot"); slot != nil {
		var err error
		if i.Slot, err = format.DecodeSlot(slot); err != nil {
			d.fail("header slot", err.Error())
		}
	}
	i.Tail, i.Durable, i.Scanned = d.u64("tail"), d.u64("durable"), d.bool("scanned")
	i.Media, i.Failure = d.text("media", maxText), d.text("failure", maxText)
	return i, d.end()
}

func encodeError(e *rdmaio.Error) []byte {
	b := le.AppendUint32(nil, rdmaio.Code(e.Kind))
	return appendText(appendFence(b, e.Fenced), e.Detail)
}

// decodeError returns the far end's refusal, or what is wrong with the frame.
func decodeError(b []byte) error {
	d := decoder{b: b, name: "Error"}
	e := &rdmaio.Error{Kind: rdmaio.Kind(d.u32("code")), Fenced: d.fence("fence"), Detail: d.text("detail", maxText)}
	if err := d.end(); err != nil {
		return err
	}
	return e
}
