package openapi

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// update is read-only: the command line sets it.
var update = flag.Bool("update", false, "rewrite the table of who may do what in docs/security.md")

const (
	securityDoc = "../docs/security.md"
	rolesBegin  = "<!-- roles:begin -->\n"
	rolesEnd    = "<!-- roles:end -->\n"
)

// People read in docs/security.md what servers do by the contract.
func TestSecurityTable(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(securityDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), rolesBegin)
	have, after, ok2 := strings.Cut(rest, rolesEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks %q and %q", securityDoc, rolesBegin, rolesEnd)
	}
	want := rolesTable(t)
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not the contract's; run this test with -update. It should be\n%s", securityDoc, want)
	}
	if err := os.WriteFile(securityDoc, []byte(before+rolesBegin+want+rolesEnd+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rolesTable(t *testing.T) string {
	t.Helper()
	columns := []string{"viewer", "client", "daemon", "anybody"}
	var b strings.Builder
	fmt.Fprintf(&b, "| operation | | %s |\n| --- | --- | --- | --- | --- | --- |\n", strings.Join(columns, " | "))
	paths := load(t).Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		ops := paths[path].Operations()
		for _, method := range slices.Sorted(maps.Keys(ops)) {
			roles, _ := ops[method].Extensions["x-roles"].([]any)
			fmt.Fprintf(&b, "| `%s %s` | %s |", method, path, ops[method].Summary)
			for _, c := range columns {
				mark := ""
				if slices.Contains(roles, any(c)) {
					mark = "yes"
				}
				fmt.Fprintf(&b, " %s |", mark)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
