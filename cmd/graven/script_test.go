package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script. Beside testscript's own commands there are
//
//	exits N graven ARGS...   run it; it must exit with N
//	dev ARGS...              start `graven dev` in $WORK/data, wait until it is
//	                         ready, and set GRAVEN_API
//	stopdev                  end it in order
//	stat-mode FILE MODE      FILE must have these permissions, in octal
//	hurt FILE OFFSET [N]     flip a bit of the byte at OFFSET, or zero N bytes
//	remember NAME REGEXP     set NAME to what the last standard output has for
//	                         the regular expression's group
func TestScripts(t *testing.T) {
	t.Parallel()
	var clusters sync.Map // of *cluster, by script
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: writeInputs,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":     exits,
			"hurt":      hurt,
			"remember":  remember,
			"stat-mode": statMode,
			"dev": func(ts *testscript.TestScript, _ bool, args []string) {
				c := startDev(scriptT{ts}, ts.MkAbs("data"), args...)
				clusters.Store(ts.Name(), c)
				ts.Setenv("GRAVEN_API", c.api)
			},
			"stopdev": func(ts *testscript.TestScript, _ bool, _ []string) {
				c, _ := clusters.Load(ts.Name())
				ts.Check(c.(*cluster).stop())
			},
		},
	})
}

// writeInputs makes the files that the scripts append.
func writeInputs(env *testscript.Env) error {
	input := randomBytes(1, 6355)
	return errors.Join(
		os.WriteFile(filepath.Join(env.WorkDir, "input"), input, 0o644),
		os.WriteFile(filepath.Join(env.WorkDir, "twice"), append(input, input...), 0o644),
		os.WriteFile(filepath.Join(env.WorkDir, "empty"), nil, 0o644),
		os.WriteFile(filepath.Join(env.WorkDir, "big"), randomBytes(2, 12<<20), 0o644),
	)
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		got = ee.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func hurt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: hurt FILE OFFSET [N]")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	off, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	b := make([]byte, 1)
	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		b = make([]byte, n)
	} else {
		_, err = f.ReadAt(b, off)
		ts.Check(err)
		b[0] ^= 0x10
	}
	_, err = f.WriteAt(b, off)
	ts.Check(err)
}

func remember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: remember NAME REGEXP")
	}
	re, err := regexp.Compile(`(?m)` + args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("the last output has nothing for %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func statMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: stat-mode FILE MODE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// scriptT lets a script use what tests use.
type scriptT struct{ ts *testscript.TestScript }

func (s scriptT) Helper()                      {}
func (s scriptT) Fatalf(f string, args ...any) { s.ts.Fatalf(f, args...) }
func (s scriptT) Logf(f string, args ...any)   { s.ts.Logf(f, args...) }
func (s scriptT) Cleanup(f func())             { s.ts.Defer(f) }
