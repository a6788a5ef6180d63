package sim

const (
	scanGo   = "pmemlog/format/scan.go"
	recordGo = "pmemlog/format/record.go"
	placeGo  = "pmemlog/format/position.go"
	fenceGo  = "pmemlog/fence.go"
	alignGo  = "pmemlog/align.go"
	writeGo  = "pmemlog/append.go"
	headerGo = "pmemlog/header.go"
	sessGo   = "pmemlog/session.go"

	coreGo     = "replog/core/core.go"
	openGo     = "replog/core/open.go"
	coreAlign  = "replog/core/align.go"
	coreAppend = "replog/core/append.go"
	coreTrim   = "replog/core/trim.go"
)

// safety is what most rules keep: which promise breaks first is a matter of
// what the world does next.
func safety() []string { return []string{"I1", "I2", "I3", "I4", "I6"} }

func everything() []string { return append(safety(), "liveness") }

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
		}, everything()},
		{"chain", []patch{{recordGo, "if h.Prev != c.CRC { // rule: chain", "if false {"}}, everything()},
		{"epoch", []patch{{recordGo, "if h.Epoch < c.Epoch { // rule: epoch", "if false {"}}, everything()},
		{"matching seal raises the epoch", []patch{{scanGo, "c.Epoch = seal.Epoch // rule: matching seal", "// weakened"}}, everything()},
		{"evidence of the hint", []patch{{scanGo, "s.res.Evidence = in.Hint // rule: evidence of the hint", "// weakened"}}, everything()},
		{"evidence of records", []patch{{scanGo, "s.res.Evidence = s.res.Evidence.Max(Position{Epoch: h.Epoch, LSN: h.Commit}) // rule: evidence of records", "// weakened"}}, everything()},

		// How an opener chooses.
		{"choose the highest", []patch{{openGo, "if best == nil || r.report.Last.After(best.report.Last) { // rule: choose the highest", "if best == nil {"}}, everything()},
		{"count the unknown", []patch{{openGo, "if c.unknown(best.report.Last) >= c.cfg.AckQuorum { // rule: count the unknown", "if false {"}}, everything()},
		{"suspects are unknown", []patch{{openGo, "case r.report.Suspect() && r.report.Evidence.After(last): // rule: suspects are unknown", "case false:"}}, everything()},
		{"the chosen one dies", []patch{
			{openGo, "case r.stage != reported:\n\t\t\tn++", "case r.stage != reported && r.report.Capacity == 0:\n\t\t\tn++"},
		}, everything()},
		{"align by epoch pairs", []patch{{coreAlign, "at, ok := format.Agreement(c.pairs, c.tail, rep.Pairs, rep.Tail) // rule: align by epoch pairs", "at, ok := min(c.tail, rep.Tail), true"}}, everything()},
		{"bytes before the seal", []patch{
			{coreAlign, "r.durable < c.seal.T { // rule: bytes before the seal", "false {"},
			{alignGo, "if in.Tail != r.chain.LSN || r.durableLSN() < in.Tail { // rule: bytes before seal", "if false {"},
		}, everything()},
		{"only sealed replicas count", []patch{{coreAppend, "if r.sealed && r.State == Present { // rule: only sealed and present replicas count", "if (r.sealed || r.stage >= filling && r.durable >= c.seal.T) && r.State == Present {"}}, everything()},
		{"only present replicas count", []patch{{coreAppend, "if r.sealed && r.State == Present { // rule: only sealed and present replicas count", "if r.sealed {"}}, everything()},
		{"ack quorum", []patch{{coreAppend, "quorum := d[n-c.cfg.AckQuorum] // rule: ack quorum", "quorum := d[n-1]"}}, everything()},
		{"trim only what is committed", []patch{{coreTrim, "to.LSN < c.trim.LSN || to.LSN > c.commit: // rule: trim only what is committed", "to.LSN < c.trim.LSN:"}}, everything()},

		// What a replica promises.
		{"nonce", []patch{{placeGo, "return g.Nonce == f.Nonce // rule: nonce", "return true"}}, everything()},
		{"fence admits", []patch{{fenceGo, "if !r.slot.Fenced.Admits(term) { // rule: fence admits", "if false {"}}, everything()},
		{"fence persisted", []patch{{fenceGo, "if err := r.promise(term); err != nil {               // rule: fence persisted", "r.slot.Fenced = term\n\tif err := error(nil); err != nil {"}}, everything()},
		{"vouch only for what is persistent", []patch{
			{fenceGo, "if err := r.pool.dev.sync(); err != nil { // rule: sync before scan", "if err := error(nil); err != nil {"},
			{fenceGo, "if err := r.vouch(res); err != nil { // rule: hint after fence", "if err := error(nil); err != nil {"},
		}, everything()},
		{"hint after fence", []patch{{fenceGo, "if err := r.vouch(res); err != nil { // rule: hint after fence", "if err := error(nil); err != nil {"}}, everything()},
		{"old sessions ended", []patch{
			{sessGo, "case !s.readOnly && s.token < s.r.owner: // rule: old sessions are refused", "case false:"},
			{sessGo, "if s.token != s.r.owner {", "if false {"},
		}, everything()},
		{"space", []patch{
			{coreAppend, "min(limit, r.trimmed+c.cfg.Capacity)) // rule: space per replica", "limit)"},
			{writeGo, "uint64(len(p)) > room { // rule: space", "false && uint64(len(p)) > room {"},
		}, everything()},
		{"sync before acknowledge", []patch{{writeGo, "if err := r.pool.dev.sync(); err != nil { // rule: sync before acknowledge", "if err := error(nil); err != nil {"}}, everything()},
		{"suspect keeps its hint", []patch{
			{alignGo, "if !r.suspect && r.nextHeader().Hint.After(at) { // rule: suspect keeps its hint", "if r.nextHeader().Hint.After(at) {"},
			{alignGo, "if r.suspect { // rule: suspect keeps its hint", "if false {"},
		}, everything()},
		{"seal persisted", []patch{{alignGo, "if err := r.writeHeader(next); err != nil { // rule: seal persisted", "r.publish(func() { r.slot = next })\n\tif err = error(nil); err != nil {"}}, everything()},
		{"trim persisted", []patch{{alignGo, "return r.writeHeader(next) // rule: trim persisted", "r.slot.Trim = next.Trim\n\treturn nil"}}, everything()},
		{"header synced", []patch{{headerGo, "if err := r.pool.dev.sync(); err != nil { // rule: header synced", "if err := error(nil); err != nil {"}}, everything()},
	}
}
