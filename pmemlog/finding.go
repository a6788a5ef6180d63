package pmemlog

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gravenio/graven/pmemlog/format"
)

// Severity says what a finding costs.
type Severity int

// The severities, from the least.
const (
	SeverityNote   Severity = iota + 1 // worth knowing; nothing is wrong
	SeverityHeals                      // a copy or a line that is written anew in the course of things; nothing is lost
	SeverityDamage                     // something is lost, or can't be used
)

// String returns note, heals or damage.
func (s Severity) String() string {
	switch s {
	case SeverityNote:
		return "note"
	case SeverityHeals:
		return "heals"
	case SeverityDamage:
		return "damage"
	default:
		return fmt.Sprintf("severity %d", int(s))
	}
}

// Finding is something that an [Inspection] has found.
type Finding struct {
	Severity Severity
	Part     string    // superblock A, directory entry 5 (copy B), header slot A ...
	Offset   int64     // of the part, in bytes from the start of the pool
	Replica  format.ID // that it is about; zero for the pool's own structures
	What     string
	Advice   string // what to do; empty when there is nothing to do
}

// What to do.
const (
	adviceRemovePool  = "keep the agent away, save what you need with an export, then remove the pool and let its replicas be made anew elsewhere"
	adviceOtherCopy   = "nothing: the next open of the pool writes it anew from the other copy"
	adviceSuperblock  = "nothing: the next start of the agent writes both copies"
	adviceDropReplica = "remove the replica once the log's others are known to be good; a new one is filled from them"
	adviceOpenLog     = "open the log (a recovery does): it is filled from the log's other replicas if they hold more; until then remove none of them"
	adviceMedium      = "see the system's log about the device; have the replicas replaced elsewhere before more is lost"
	adviceFence       = "nothing: the next open of the log writes a header in its place"
)

// Text that several parts of an examination need.
const (
	strayBytes    = "it has bytes set that version 1 leaves zero"
	copiesOfOneNo = "both copies are whole and of generation %d, yet they differ, which no crash does; copy A counts"
)

// versionAdvice takes an error about a version apart: the package's errors say
// what is wrong, then behind a semicolon what to do.
func versionAdvice(err error) (what, advice string) {
	what, advice, _ = strings.Cut(err.Error(), "; ")
	return what, advice
}

// blank says whether nothing was ever written to b.
func blank(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// copyName names one of two copies.
func copyName(i int) string { return string(rune('A' + i)) }
