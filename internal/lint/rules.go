package lint

import (
	"go/ast"
	"go/token"
	"path"
	"strconv"
	"strings"
)

// codeRules applies what is forbidden inside the code of one file.
func (c *checker) codeRules(f *file) {
	pure := c.rows[f.dir()].Pure
	clock, random := f.importName("time"), f.importName("math/rand/v2")
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if pure {
				c.report(f, n.Pos(), "pure", "%q is pure and starts no goroutine: its caller decides what runs when", f.dir())
			}
		case *ast.SelectorExpr:
			switch {
			case isName(n.X, clock) && n.Sel.Name == "Sleep":
				c.report(f, n.Pos(), "sleep", "time.Sleep can't be cancelled and hides what is waited for: wait for the event, or on a timer in a select")
			case pure && isName(n.X, random) && globalRandom(n.Sel.Name):
				c.report(f, n.Pos(), "pure", "rand.%s draws from the global source: draw from a *rand.Rand that the caller seeded", n.Sel.Name)
			}
		}
		return true
	})
	for _, decl := range f.ast.Decls {
		if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.VAR {
			c.stateRule(f, group)
		}
	}
}

// stateRule reports package-level variables that may change.
func (c *checker) stateRule(f *file, group *ast.GenDecl) {
	for _, s := range group.Specs {
		spec, ok := s.(*ast.ValueSpec)
		if !ok || marked(group.Doc) || marked(spec.Doc) || marked(spec.Comment) {
			continue
		}
		for i, name := range spec.Names {
			var value ast.Expr
			if i < len(spec.Values) {
				value = spec.Values[i]
			}
			if !fixed(name.Name, spec.Type, value) {
				c.report(f, name.Pos(), "state", "package-level variable %s: keep it in a struct;"+
					" if it is a table that nobody writes, say so with a comment that contains \"read-only\"", name.Name)
			}
		}
	}
}

// marked says whether a comment declares the variable constant in all but name.
func marked(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, line := range doc.List {
		if strings.Contains(strings.ToLower(line.Text), "read-only") || strings.HasPrefix(line.Text, "//go:embed ") {
			return true
		}
	}
	return false
}

// fixed says whether a variable is plainly one that nobody changes: an interface
// assertion, an error sentinel, embedded files, or what a constructor of
// constants made.
func fixed(name string, typ, value ast.Expr) bool {
	if name == "_" {
		return true
	}
	switch value.(type) {
	case *ast.UnaryExpr, *ast.SelectorExpr: // &Error{...}, another package's sentinel
		if sentinel(name) {
			return true
		}
	}
	if sel, ok := typ.(*ast.SelectorExpr); ok && isName(sel.X, "embed") {
		return true
	}
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	fun, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (sentinel(name) ||
		isName(fun.X, "errors") && fun.Sel.Name == "New" ||
		isName(fun.X, "regexp") && fun.Sel.Name == "MustCompile" ||
		isName(fun.X, "crc32") && fun.Sel.Name == "MakeTable")
}

// sentinel says whether a name is that of an error to compare with.
func sentinel(name string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(name[:1])+name[1:], "err")
	return ok && rest != "" && ast.IsExported(rest)
}

// globalRandom says whether a name of math/rand/v2 is a function that uses the
// global source. Its types and constructors are the rest.
func globalRandom(name string) bool {
	switch name {
	case "Rand", "Source", "PCG", "ChaCha8", "Zipf":
		return false
	}
	return !strings.HasPrefix(name, "New")
}

// importName returns the name by which the file knows an imported package, ""
// if it does not import it.
func (f *file) importName(target string) string {
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != target {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(strings.TrimSuffix(target, "/v2"))
	}
	return ""
}

func isName(expr ast.Expr, name string) bool {
	id, ok := expr.(*ast.Ident)
	return ok && name != "" && id.Name == name
}
