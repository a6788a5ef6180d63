package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain puts this test binary into the PATH as graven, so that scripts and
// end-to-end tests run the real program, its agents included.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"graven": main})
}

// leakChecked fails when tests leave goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
