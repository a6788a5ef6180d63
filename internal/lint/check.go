package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Finding is one broken rule at one place.
type Finding struct {
	File string // relative to the module's root, with slashes
	Line int
	Rule string // as in the package comment
	Text string // what is wrong and what to do about it
}

// String formats the finding as file:line: rule: text.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Text)
}

// Check applies all rules to the Go files in root, the folder of a module with
// the given path. Folders named testdata or node_modules, hidden ones, and
// those with a go.mod of their own are not part of the module. The error is
// that of a file that can't be read or parsed; findings are no error.
func Check(root fs.FS, module string, table []Package) ([]Finding, error) {
	files, err := load(root)
	if err != nil {
		return nil, err
	}
	c := &checker{
		module: module,
		rows:   map[string]Package{},
		docs:   map[string]bool{},
		asked:  map[[2]string]bool{},
	}
	for _, row := range table {
		c.rows[row.Path] = row
	}
	for _, f := range files {
		if path.Base(f.name) == "doc.go" && f.ast.Doc != nil {
			c.docs[f.dir()] = true
		}
	}
	for _, f := range files {
		c.packageRules(f)
		c.importRules(f)
		if !f.test() && !f.generated() {
			c.codeRules(f)
		}
	}
	slices.SortStableFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return c.findings, nil
}

type checker struct {
	module   string
	rows     map[string]Package
	docs     map[string]bool    // folders that have a doc.go with a package comment
	asked    map[[2]string]bool // rule and folder: reported once a package
	findings []Finding
}

func (c *checker) report(f *file, at token.Pos, rule, format string, args ...any) {
	c.findings = append(c.findings, Finding{f.name, f.fset.Position(at).Line, rule, fmt.Sprintf(format, args...)})
}

// file is one parsed source file.
type file struct {
	name string
	fset *token.FileSet
	ast  *ast.File
}

func (f *file) dir() string     { return path.Dir(f.name) }
func (f *file) test() bool      { return strings.HasSuffix(f.name, "_test.go") }
func (f *file) generated() bool { return ast.IsGenerated(f.ast) }

func load(root fs.FS) ([]*file, error) {
	var files []*file
	walk := func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && foreign(root, name) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("lint: parse: %w", err)
		}
		files = append(files, &file{name: name, fset: fset, ast: parsed})
		return nil
	}
	return files, fs.WalkDir(root, ".", walk)
}

// foreign says whether a folder holds no code of the module itself.
func foreign(root fs.FS, dir string) bool {
	base := path.Base(dir)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
		base == "testdata" || base == "node_modules" {
		return true
	}
	_, err := fs.Stat(root, path.Join(dir, "go.mod"))
	return err == nil
}
