package pmemlog_test

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// site is a call in the product that makes something persistent.
type site struct {
	name       string // file.go:Type.Func#n
	begin, end int    // of the call, in bytes of the file
	body       int    // where the body of its function begins
	looped     bool   // the call is made several times in one call of its function
	silent     bool   // the call returns nothing; else an error
}

// sites are those of a package, by file.
type sites map[string][]site

// findSites looks through the package in the current folder for calls of what
// makes persistent: syncs of any receiver, what is composed of them, and flushes
// and fences of a memory.
func findSites(t *testing.T) sites {
	t.Helper()
	pkg := get[*build.Package](t)(build.ImportDir(".", 0))
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range pkg.GoFiles {
		files = append(files, get[*ast.File](t)(parser.ParseFile(fset, name, nil, 0)))
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	get[*types.Package](t)(config.Check(pkg.Name, fset, files, info))
	found := sites{}
	for i, file := range files {
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
				found[pkg.GoFiles[i]] = append(found[pkg.GoFiles[i]], sitesOf(fset, info, pkg.GoFiles[i], f)...)
			}
		}
	}
	return found
}

// sitesOf finds the sites of one function.
func sitesOf(fset *token.FileSet, info *types.Info, file string, f *ast.FuncDecl) []site {
	var found []site
	var loops []ast.Node
	offset := func(p token.Pos) int { return fset.Position(p).Offset }
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			loops = append(loops, n)
		case *ast.CallExpr:
			if !persists(info, n) {
				break
			}
			found = append(found, site{
				name:  fmt.Sprintf("%s:%s#%d", file, funcName(f), len(found)+1),
				begin: offset(n.Pos()), end: offset(n.End()), body: offset(f.Body.Lbrace) + 1,
				silent: info.Types[n].IsVoid(),
				looped: slices.ContainsFunc(loops, func(l ast.Node) bool { return l.Pos() <= n.Pos() && n.End() <= l.End() }),
			})
		}
		return true
	})
	return found
}

func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	return strings.TrimPrefix(types.ExprString(f.Recv.List[0].Type), "*") + "." + f.Name.Name
}

// persists says whether a call makes something persistent, or asks for it.
func persists(info *types.Info, call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch f.Sel.Name {
	case "Sync", "sync", "Fsync", "Fdatasync", "Msync", "Persist", "persist", "WriteBack", "writeBack", "settle":
		return true
	case "Flush", "Fence": // of memory: sessions and seals have methods of these names, too
		m, _, _ := types.LookupFieldOrMethod(info.TypeOf(f.X), true, nil, "Stream")
		return m != nil
	default:
		return false
	}
}
