package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

const module = "github.com/gravenio/graven"

// TestRepository is the rule book applied to this repository.
func TestRepository(t *testing.T) {
	t.Parallel()
	findings, err := Check(os.DirFS("../.."), module, Table())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// TestArrowsPointDown keeps the table itself honest: a row may name only rows
// below it, so that the packages can't form a cycle even through tests of ours.
func TestArrowsPointDown(t *testing.T) {
	t.Parallel()
	for _, problem := range upward(Table()) {
		t.Error(problem)
	}
	wrong := []Package{{Path: "low"}, {Path: "high", Imports: []string{"low"}}}
	if got := upward(wrong); len(got) != 1 {
		t.Errorf("an arrow that points up was reported %d times, want once: %q", len(got), got)
	}
}

func upward(table []Package) (problems []string) {
	below := map[string]bool{Everything: true}
	for i := len(table) - 1; i >= 0; i-- {
		row := table[i]
		for _, target := range row.Imports {
			if !below[target] {
				problems = append(problems, fmt.Sprintf("row %q imports %q, which is not below it", row.Path, target))
			}
		}
		if below[row.Path] {
			problems = append(problems, fmt.Sprintf("row %q is there twice", row.Path))
		}
		below[row.Path] = true
	}
	return problems
}

// TestPlanesStayApart states what the table is for: however packages are added,
// the control plane does not reach the data path, and what is pure reaches
// only what is pure.
func TestPlanesStayApart(t *testing.T) {
	t.Parallel()
	rows := map[string]Package{}
	for _, row := range Table() {
		rows[row.Path] = row
	}
	for _, path := range []string{"server", "store", "placement"} {
		for reached := range closure(rows, path) {
			if strings.HasPrefix(reached, "rdmaio") || strings.HasPrefix(reached, "pmemlog") || strings.HasPrefix(reached, "replog") {
				t.Errorf("%q reaches %q", path, reached)
			}
		}
	}
	for path, row := range rows {
		if !row.Pure {
			continue
		}
		for reached := range closure(rows, path) {
			if !rows[reached].Pure {
				t.Errorf("%q is pure but reaches %q, which is not", path, reached)
			}
		}
	}
	for _, path := range []string{"replog/core", "placement", "pmemlog/format"} {
		if !rows[path].Pure {
			t.Errorf("%q is not marked pure", path)
		}
	}
}

func closure(rows map[string]Package, path string) map[string]bool {
	reached := map[string]bool{}
	for todo := []string{path}; len(todo) > 0; todo = todo[1:] {
		for _, target := range rows[todo[0]].Imports {
			if !reached[target] {
				reached[target] = true
				todo = append(todo, target)
			}
		}
	}
	return reached
}

// TestRules runs the checker over small trees, one a rule, each with code that
// breaks the rule and code that only looks as if it did. The comment on top of
// an archive lists the findings it must give, "file:line: rule", and no other.
func TestRules(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in testdata: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			tree := fstest.MapFS{}
			for _, f := range archive.Files {
				tree[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			findings, err := Check(tree, "example.org/m", exampleTable())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range findings {
				got = append(got, fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Rule))
			}
			want := strings.TrimSpace(string(archive.Comment))
			if have := strings.Join(got, "\n"); have != want {
				t.Errorf("findings:\n%s\nwant:\n%s\nin full: %v", have, want, findings)
			}
		})
	}
}

func exampleTable() []Package {
	return []Package{
		{Path: "cmd", Imports: []string{Everything}},
		{Path: "top", Imports: []string{"low"}, Tests: []string{"side"}},
		{Path: "side"},
		{Path: "core", Imports: []string{"low"}, Pure: true},
		{Path: "low"},
		{Path: "rdmaio/internal/verbs"},
		{Path: "common"},
		{Path: "internal/harness", Harness: true},
	}
}

// TestUnparsable: a file that can't be read as Go is an error, not a clean bill.
func TestUnparsable(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{"low/doc.go": {Data: []byte("package low; func {")}}
	if _, err := Check(tree, "example.org/m", exampleTable()); err == nil || !strings.Contains(err.Error(), "low/doc.go") {
		t.Errorf("error %v, want one that names low/doc.go", err)
	}
}
