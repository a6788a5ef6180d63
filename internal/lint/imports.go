package lint

import (
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// cgoUnder is the only folder whose packages may import C: persistence needs
// none, and a binary without RDMA has to build without a C compiler.
const cgoUnder = "rdmaio/internal/verbs"

// packageRules applies what is asked of a package as a whole, once a package.
func (c *checker) packageRules(f *file) {
	dir, at := f.dir(), f.ast.Name.Pos()
	if _, known := c.rows[dir]; !known && c.once("imports", dir) {
		c.report(f, at, "imports", "package %q has no row in the import table: add one to Table in internal/lint/table.go"+
			" that says what it may import (harness: it is for tests only)", dir)
	}
	if f.test() || f.generated() {
		return
	}
	if name := drawer(path.Base(dir), f.ast.Name.Name); name != "" && c.once("name", dir) {
		c.report(f, at, "name", "%q says nothing about what is inside: name the package after what it provides", name)
	}
	if !c.docs[dir] && c.once("doc", dir) {
		c.report(f, at, "doc", "package %q has no doc.go with a package comment: write one that says what it promises,"+
			" what it assumes, who may call it concurrently and what is on the wire or medium", dir)
	}
}

// once says whether a rule is asked about a package for the first time.
func (c *checker) once(rule, dir string) bool {
	first := !c.asked[[2]string{rule, dir}]
	c.asked[[2]string{rule, dir}] = true
	return first
}

// drawer returns the first of the names that fits anything, "" if none does.
func drawer(names ...string) string {
	for _, name := range names {
		switch name {
		case "util", "utils", "common", "types", "helper", "helpers", "misc", "shared":
			return name
		}
	}
	return ""
}

// importRules checks each import of one file against the table.
func (c *checker) importRules(f *file) {
	row, known := c.rows[f.dir()]
	for _, spec := range f.ast.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has already refused such a file
		}
		switch ours, found := c.relative(target); {
		case target == "C":
			if f.dir() != cgoUnder && !strings.HasPrefix(f.dir(), cgoUnder+"/") {
				c.report(f, spec.Pos(), "cgo", "C is imported only under %s: put what needs it there, or do without", cgoUnder)
			}
		case found && ours != f.dir():
			c.ownImport(f, row, known, ours, spec.Pos())
		case !found && row.Pure && !f.test():
			c.pureImport(f, target, spec.Pos())
		}
	}
}

// relative strips the module's path from an import path.
func (c *checker) relative(target string) (string, bool) {
	if target == c.module {
		return ".", true
	}
	return strings.CutPrefix(target, c.module+"/")
}

func (row Package) allows(target string, test bool) bool {
	if slices.Contains(row.Imports, target) || slices.Contains(row.Imports, Everything) {
		return true
	}
	return test && slices.Contains(row.Tests, target)
}

// ownImport checks the import of one of our packages.
func (c *checker) ownImport(f *file, row Package, known bool, target string, at token.Pos) {
	if c.rows[target].Harness {
		if !f.test() && !row.Harness {
			c.report(f, at, "harness", "%q exists for tests: only tests and harnesses import it", target)
		}
		return
	}
	if known && !row.allows(target, f.test()) {
		c.report(f, at, "imports", "%q may not import %q: the import table (internal/lint/table.go) does not allow it;"+
			" take what you need through an interface of your own, or move the code", f.dir(), target)
	}
}

// cpuFeatures says what instructions there are, which is the same each time.
const cpuFeatures = "golang.org/x/sys/cpu"

// pureImport checks the import of an outside package by a pure one.
func (c *checker) pureImport(f *file, target string, at token.Pos) {
	first, _, _ := strings.Cut(target, "/")
	switch {
	case first == "net" || first == "os" || first == "time" || first == "syscall" || target == "math/rand":
		c.report(f, at, "pure", "%q is pure and may not import %q: have the caller pass in what it says", f.dir(), target)
	case strings.Contains(first, ".") && target != cpuFeatures:
		c.report(f, at, "pure", "%q is pure and imports the standard library only, not %q", f.dir(), target)
	}
}
