package sim

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exhaustible are the rules without which the exhaustive search alone must
// break a promise, and the search that is asked. The others need what the small
// model lacks: a third writer that crashes (chain), trims and a second lap (lsn,
// space, the trim rules), replicas that are not present yet, an epoch that is
// handed out twice (nonce), or more choices than there is time for.
func exhaustible() []struct{ rule, search string } {
	return []struct{ rule, search string }{
		{"matching seal raises the epoch", "open"},
		{"epoch", "passed-crash"},
		{"evidence of the hint", "flip"},
		{"evidence of records", "flip"},
		{"choose the highest", "open"},
		{"count the unknown", "open"},
		{"suspects are unknown", "flip"},
		{"the chosen one dies", "loading-crash"},
		{"align by epoch pairs", "passed-crash"},
		{"bytes before the seal", "open"},
		{"only sealed replicas count", "open"},
		{"ack quorum", "open"},
		{"fence admits", "open"},
		{"fence persisted", "loading-crash"},
		{"vouch only for what is persistent", "links"},
		{"old sessions ended", "open"},
		{"sync before acknowledge", "open"},
		{"seal persisted", "open"},
	}
}

// TestMutationExhaustive takes rules away as TestMutation does, and leaves it to
// the exhaustive search to notice.
func TestMutationExhaustive(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a simulation for every rule")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("true-rules", func(t *testing.T) {
		t.Parallel()
		if broken := play(t, buildMutated(t, root, mutation{}), "-test.run", "^TestExhaustive$"); broken != "" {
			t.Fatal(broken)
		}
	})
	all := mutations()
	for _, x := range exhaustible() {
		t.Run(strings.ReplaceAll(x.rule, " ", "-"), func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(all, func(m mutation) bool { return m.rule == x.rule })
			if i < 0 {
				t.Fatalf("no mutation takes away the rule %q", x.rule)
			}
			broken := play(t, buildMutated(t, root, all[i]), "-test.run", "^TestExhaustive$/^"+x.search+"$")
			if broken == "" {
				t.Fatalf("without the rule %q all promises were kept in the search %q", x.rule, x.search)
			}
			t.Logf("without the rule %q: %s", x.rule, broken)
			isPromise(t, broken)
		})
	}
}
