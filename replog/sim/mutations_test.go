package sim

const (
	scanGo   = "pmemlog/format/scan.go"
	recordGo = "pmemlog/format/record.go"
	placeGo  = "pmemlog/format/position.go"
	sealGo   = "pmemlog/format/seal.go"
	fenceGo  = "pmemlog/fence.go"
	alignGo  = "pmemlog/align.go"
	writeGo  = "pmemlog/append.go"
	flushGo  = "pmemlog/flush.go"
	headerGo = "pmemlog/header.go"
	sessGo   = "pmemlog/session.go"
	createGo = "pmemlog/create.go"

	coreGo     = "replog/core/core.go"
	openGo     = "replog/core/open.go"
	coreAlign  = "replog/core/align.go"
	coreAppend = "replog/core/append.go"
	coreTrim   = "replog/core/trim.go"
	coreRepl   = "replog/core/replace.go"
	coreStatus = "replog/core/status.go"

	simControl = "replog/sim/control.go"
	simNode    = "replog/sim/node.go"
)

// mutations lists the rules of append and open, each with the change that takes
// it away everywhere.
func mutations() []mutation {
	return []mutation{
		// What makes a record valid.
		// The chain alone rejects what an earlier lap left, too, as far as 32 bits of
		// checksum go; a record's place must not hang on that. Hence both are gone here.
		{"lsn", []patch{
			{recordGo, "if h.LSN != c.LSN { // rule: lsn", "if false {"},
			{scanGo, "if h.LSN != lsn { // rule: lsn", "if false {"},
			{recordGo, "if h.Prev != c.CRC { // rule: chain", "if false {"},
			{recordGo, "c.LSN, c.CRC, c.Epoch = h.End(), h.CRC, h.Epoch", "c.LSN, c.CRC, c.Epoch = c.LSN+h.Size(), h.CRC, h.Epoch"}, // or a scan would run in circles
		}},
		{"chain", []patch{{recordGo, "if h.Prev != c.CRC { // rule: chain", "if false {"}}},
		{"epoch", []patch{{recordGo, "if h.Epoch < c.Epoch { // rule: epoch", "if false {"}}},
		{"a seal voids what lies behind it", []patch{
			{recordGo, "if h.Epoch < c.Epoch { // rule: epoch", "if false {"},
			{recordGo, "c.LSN, c.CRC, c.Epoch = h.End(), h.CRC, h.Epoch", "c.LSN, c.CRC, c.Epoch = h.End(), h.CRC, max(c.Epoch, h.Epoch)"},
		}},
		{"a trimmed log keeps its epoch", []patch{{scanGo, "Epoch: t.Epoch} // rule: a trimmed log keeps its epoch", "Epoch: 0}"}}},
		{"matching seal raises the epoch", []patch{{scanGo, "c.Epoch = seal.Epoch // rule: matching seal", "// weakened"}}},
		{"evidence of the hint", []patch{{scanGo, "s.res.Evidence = in.Hint // rule: evidence of the hint", "// weakened"}}},
		{"evidence of records", []patch{{scanGo, "s.res.Evidence = s.res.Evidence.Max(Position{Epoch: h.Epoch, LSN: h.Commit}) // rule: evidence of records", "// weakened"}}},

		// How an opener chooses.
		{"choose the highest", []patch{{openGo, "if best == nil || r.report.Last.After(best.report.Last) { // rule: choose the highest", "if best == nil {"}}},
		{"count the unknown", []patch{{openGo, "missing := c.unknown(best.report.Last) >= c.cfg.AckQuorum // rule: count the unknown", "missing := false"}}},
		{"suspects are unknown", []patch{{openGo, "case r.report.Suspect() && r.report.Evidence.After(last): // rule: suspects are unknown", "case false:"}}},
		{"evidence has an epoch", []patch{{openGo, "case r.report.Suspect() && r.report.Evidence.After(last): // rule: suspects are unknown", "case r.report.Suspect() && r.report.Evidence.LSN > last.LSN:"}}},
		{"the chosen one dies", []patch{
			{openGo, "case r.stage != reported: // rule: the silent are unknown", "case r.stage != reported && r.report.Capacity == 0:"},
		}},
		{"choose again", []patch{{coreGo, "if c.phase == Loading && c.chosen == p.Index { // rule: the chosen one dies", "if false {"}}},
		{"align by epoch pairs", []patch{{coreAlign, "at, ok := format.Agreement(c.pairs, c.tail, rep.Pairs, rep.Tail) // rule: align by epoch pairs", "at, ok := min(c.tail, rep.Tail), true"}}},
		{"bytes before the seal", []patch{
			{coreAlign, "r.durable < c.seal.T { // rule: bytes before the seal", "false {"},
			{alignGo, "if in.Tail != r.chain.LSN || r.durableLSN() < in.Tail { // rule: bytes before seal", "if false {"},
		}},
		{"only sealed replicas count", []patch{{coreAppend, "member(i) && r.sealed && r.State != Allocated && c.namesSet(r) { // rule: only sealed and present replicas count", "member(i) && (r.sealed || r.stage >= filling && r.durable >= c.seal.T) && r.State != Allocated && c.namesSet(r) {"}}},
		{"only present replicas count", []patch{{coreAppend, "member(i) && r.sealed && r.State != Allocated && c.namesSet(r) { // rule: only sealed and present replicas count", "member(i) && r.sealed && c.namesSet(r) {"}}},
		{"present before it counts", []patch{{coreAlign, "if r.State == Allocated { // rule: present before its first acknowledgement counts\n", "if r.State == Allocated {\n\t\tr.State = Present\n"}}},
		{"ack quorum", []patch{{coreAppend, "return d[n-c.cfg.AckQuorum], true // rule: ack quorum", "return d[n-1], true"}}},
		{"trim only what is committed", []patch{{coreTrim, "to.LSN < c.trim.LSN || to.LSN > c.commit: // rule: trim only what is committed", "to.LSN < c.trim.LSN:"}}},

		// What a replica promises.
		{"nonce", []patch{{placeGo, "return g.Nonce == f.Nonce // rule: nonce", "return true"}}},
		{"fence admits", []patch{{fenceGo, "if !r.slot.Fenced.Admits(term) { // rule: fence admits", "if false {"}}},
		{"fence persisted", []patch{{fenceGo, "if err := r.promise(term); err != nil {               // rule: fence persisted", "r.slot.Fenced = term\n\tif err := error(nil); err != nil {"}}},
		{"vouch only for what is persistent", []patch{
			{fenceGo, "if err := r.pool.dev.sync(); err != nil { // rule: sync before scan", "if err := error(nil); err != nil {"},
			{fenceGo, "if err := r.vouch(res); err != nil { // rule: hint after fence", "if err := error(nil); err != nil {"},
		}},
		{"hint after fence", []patch{{fenceGo, "if err := r.vouch(res); err != nil { // rule: hint after fence", "if err := error(nil); err != nil {"}}},
		{"old sessions ended", []patch{
			{sessGo, "case !s.readOnly && s.token < s.r.owner: // rule: old sessions are refused", "case false:"},
			{sessGo, "if s.token != s.r.owner {", "if false {"},
		}},
		{"space", []patch{
			{coreAppend, "min(limit, r.trimmed+c.cfg.Capacity)) // rule: space per replica", "limit)"},
			{writeGo, "n > room { // rule: space", "false && n > room {"},
		}},
		{"sync before acknowledge", []patch{{flushGo, "if err := r.pool.dev.sync(); err != nil { // rule: sync before acknowledge", "if err := error(nil); err != nil {"}}},
		{"suspect keeps its hint", []patch{
			{alignGo, "if !r.suspect && r.nextHeader().Hint.After(at) { // rule: suspect keeps its hint", "if r.nextHeader().Hint.After(at) {"},
			{alignGo, "if r.suspect { // rule: suspect keeps its hint", "if false {"},
		}},
		{"seal persisted", []patch{{alignGo, "if err := r.writeHeader(next); err != nil { // rule: seal persisted", "r.publish(func() { r.slot = next })\n\tif err = error(nil); err != nil {"}}},
		{"trim persisted", []patch{{alignGo, "return r.writeHeader(next) // rule: trim persisted", "r.slot.Trim = next.Trim\n\treturn nil"}}},
		{"header synced", []patch{{headerGo, "if err := r.pool.dev.sync(); err != nil { // rule: header synced", "if err := error(nil); err != nil {"}}},
		{"header slots alternate", []patch{{headerGo, "at := 1 - r.slotAt // rule: header slots alternate", "at := r.slotAt"}}},
		{"hint behind persistence", []patch{{headerGo, "hint := r.acked // rule: hint behind persistence", "hint := format.Position{Epoch: r.chain.Epoch, LSN: r.chain.LSN}"}}},
		{"hint lowered before rewriting", []patch{{alignGo, "if err := r.lowerHint(at); err != nil { // rule: hint lowered before rewriting", "if err := error(nil); err != nil {"}}},
		{"old hint lines are void", []patch{{headerGo, "if l.Generation < r.slot.Generation || l.Sequence < r.lineSeq { // rule: old hint lines are void", "if l.Sequence < r.lineSeq {"}}},
		{"hint with the next flush", []patch{{flushGo, "return f, r.writeHintLine() // rule: hint with the next flush", "return f, nil"}}},
		{"reset persisted", []patch{{alignGo, "return r.writeHeader(next, func() { // rule: reset persisted", "return func(then func()) error { r.publish(func() { r.slot, r.hint = next, next.Hint; then() }); return nil }(func() {"}}},
		{"suspect keeps what it has not made good", []patch{{alignGo, "if lost { // rule: suspect keeps what it has not made good", "if false {"}}},
		{"nonce of a stretch", []patch{{sealGo, "p.Fence != q.Fence { // rule: nonce", "p.Epoch != q.Epoch {"}}},
		{"sync before scan", []patch{{fenceGo, "if err := r.pool.dev.sync(); err != nil { // rule: sync before scan", "if err := error(nil); err != nil {"}}},
		{"a seal must match", []patch{
			{scanGo, "seal.T != c.LSN || seal.Prev != c.CRC || seal.Epoch < c.Epoch { // rule: a seal must match", "seal.T != c.LSN || seal.Epoch < c.Epoch {"},
			{alignGo, "if known && crc != own.Prev { // rule: seal matches", "if known && crc != own.Prev && false {"},
		}},
		{"seal before append", []patch{
			{coreAppend, "limit = c.seal.T // rule: seal before append", "// weakened"},
			{writeGo, "case epoch == r.term.Epoch && !r.sealed: // rule: seal before append", "case false:"},
		}},

		// How a replica is replaced.
		{"joint", []patch{{coreAppend, "return min(lsn, next), ok && nextOK // rule: joint", "_, _ = next, nextOK\n\treturn lsn, ok"}}},
		{"caught up before joint", []patch{{coreRepl, "return ok && lsn >= c.commit // rule: caught up before joint", "_ = lsn\n\treturn ok"}}},
		{"learner is sealed", []patch{{coreRepl, "if c.replicas[c.change.to].stage != member { // rule: learner is sealed", "if false {"}}},
		{"a learner does not count", []patch{{coreRepl, "return c.replicas[i].voter } // rule: a learner does not count", "return c.replicas[i].voter || c.change != nil && i == c.change.to }"}}},
		{"seals name the new set", []patch{
			{coreRepl, "return n >= c.cfg.AckQuorum // rule: seals name the new set", "return n >= 0"},
			{coreRepl, "return r.setVersion == c.cfg.SetVersion || c.change != nil && c.change.stage == switched", "return r != nil"},
		}},
		{"no old record ends joint", []patch{{coreRepl, "case !in && setVersion == c.cfg.SetVersion && ch.stage == learning: // rule: no old record ends joint", "case !in && setVersion == c.cfg.SetVersion:"}}},
		{"reseal persisted", []patch{{alignGo, "return r.writeHeader(next) // rule: reseal persisted", "r.publish(func() { r.slot = next })\n\treturn nil"}}},
		{"set version", []patch{{openGo, "ok && s.SetVersion > c.cfg.SetVersion { // rule: set version", "ok && false {\n\t\t_ = s"}}},
		{"present is never made anew", []patch{{coreStatus, "return r.State != Present && !r.made // rule: present is never made anew", "return r != nil"}}},
		{"removed is never made anew", []patch{{createGo, "if p.dir.removed(s.Replica) { // rule: removed is never made anew", "if false {"}}},
		{"sealed is never made anew", []patch{{coreStatus, "return r.State != Present && !r.made // rule: present is never made anew", "return r.State != Present"}}},

		// What the control plane does for it. Its side is modelled in this package.
		{"control compares the epoch", []patch{{simControl, "case now.Epoch > term.Epoch: // rule: control compares the epoch\n", "case now.Epoch > term.Epoch && term.Epoch > 0:\n\t\treturn nil, false\n\tcase now.Epoch > term.Epoch:\n"}}},
		{"control compares the nonce", []patch{{simControl, "case now.Nonce != term.Nonce: // rule: control compares the nonce", "case false:"}}},
		{"outcome unknown stays joint", []patch{{simControl, "c.ask(x, do) // rule: outcome unknown stays joint\n\t\t\t}", "x.event(func(k *core.Core) {\n\t\t\t\t\tif r, ok := k.Replacing(); ok {\n\t\t\t\t\t\tk.Abandoned(r.Learner)\n\t\t\t\t\t}\n\t\t\t\t})\n\t\t\t}"}}},
		{"a pool that was set back is refused", []patch{{simControl, "if n.incarnation < c.seen[n.poolID] { // rule: a pool that was set back is refused", "if false {"}}},
		{"a member of a newer set is kept", []patch{{simNode, "beyond { // rule: a member of a newer set is kept", "beyond && false {"}}},
		{"no new writer before registration", []patch{{simNode, "if !promised && !n.registered { // rule: no new writer before registration", "if promised && false {"}}},
		{"a record of before a restore is not believed", []patch{{simControl, "c.set[i].state = core.Present // rule: a record of before a restore is not believed that nothing was promised", "_ = i"}}},
		{"a restore raises the epoch", []patch{{simControl, "c.term.Epoch = c.highest // rule: a restore raises the epoch", ""}}},
	}
}
