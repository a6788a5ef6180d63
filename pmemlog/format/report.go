package format

// Report is what a replica answers when it has been fenced: what it holds, and
// what it must once have held. It was made from bytes that are persistent.
type Report struct {
	Fenced   Fence
	Trim     TrimPoint
	Tail     uint64   // LSN behind the last valid record
	Durable  uint64   // LSN up to which all is persistent; the tail, after a fence
	Last     Position // (epoch, tail)
	Pairs    []Pair   // in the order of First
	Evidence Position // beyond Last: the replica is suspect
	Commit   uint64   // the highest commit LSN that a valid record carries
	Records  uint64   // valid data records in [trim, tail)
	Set      []ID     // the replica set of the newest seal
	Seals    []Seal   // in the order of T
	Capacity uint64   // of the ring, in bytes
}

// Suspect reports whether the replica has lost something that it, or a quorum,
// once had.
func (r *Report) Suspect() bool { return r.Evidence.After(r.Last) }

// NewestSeal returns the seal of the highest epoch, and false without one.
func (r *Report) NewestSeal() (Seal, bool) {
	var newest Seal
	for _, s := range r.Seals {
		if s.Epoch >= newest.Epoch {
			newest = s
		}
	}
	return newest, len(r.Seals) > 0
}
