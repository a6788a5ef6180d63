package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestProfile says when the profile that `make build` hands to the compiler is of a
// program that is no more: functions that have been renamed are no longer found in it,
// and nobody else would notice.
func TestProfile(t *testing.T) {
	t.Parallel()
	goTool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("GRAVEN_REQUIRE") == "all" {
			t.Fatal("no go on the PATH, and GRAVEN_REQUIRE=all wants every test")
		}
		t.Skip("no go on the PATH")
	}
	profile, err := os.ReadFile("../../bench/graven.pgo") // by the test itself, or its result would be kept when the file changes
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "graven.pgo")
	if err := os.WriteFile(copied, profile, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(goTool, "tool", "pprof", "-top", "-nodefraction=0", "-nodecount=100000", copied)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read the profile: %v\n%s", err, problems.String())
	}
	named, have := profiled(string(out)), declared(t, "../..")
	if len(named) < 50 {
		t.Fatalf("the profile names %d functions of this module, want at least 50; run: make profile", len(named))
	}
	var gone []string
	for _, name := range named {
		if !have[name] {
			gone = append(gone, name)
		}
	}
	if len(gone) > len(named)/10 {
		t.Errorf("%d of %d functions that the profile names are gone, more than a tenth; run: make profile\n%s", len(gone), len(named), strings.Join(gone, "\n"))
	}
}

// inner is what a function's name has behind that of the one it stands in.
var inner = regexp.MustCompile(`(\.func\d+|\.gowrap\d+|\.deferwrap\d+|\.\d+|-fm|-range\d+|\[\.\.\.\])+$`)

// noProduct is what names have of tests, of the program (whose package the linker calls
// main), and of types that a generic function is made for.
var noProduct = regexp.MustCompile(`_test\.|\.Benchmark|\.bench|/cmd/graven\.|;$`)

// profiled returns the functions of the module's packages, but for tests, that a table of
// pprof names.
func profiled(table string) []string {
	names := map[string]bool{}
	for line := range strings.Lines(table) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, module+"/") && !noProduct.MatchString(word) {
				names[inner.ReplaceAllString(word, "")] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// declared returns the functions of all packages below root, on whatever machine they are
// for, by the names that the linker gives them.
func declared(t *testing.T, root string) map[string]bool {
	t.Helper()
	names, tree := map[string]bool{}, os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && foreign(tree, name):
			return fs.SkipDir
		case path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				names[module+"/"+path.Dir(name)+"."+receiver(f)+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// receiver returns what stands before a method's name.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	typ, form := f.Recv.List[0].Type, "%."
	if star, ok := typ.(*ast.StarExpr); ok {
		typ, form = star.X, "(*%)."
	}
	switch generic := typ.(type) {
	case *ast.IndexExpr:
		typ = generic.X
	case *ast.IndexListExpr:
		typ = generic.X
	}
	ident, _ := typ.(*ast.Ident)
	return strings.Replace(form, "%", ident.String(), 1)
}
