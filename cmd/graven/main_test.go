package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/goleak"
)

// TestMain puts this test binary into the PATH as graven, so that scripts and
// end-to-end tests run the real program, its agents included; and as etcd and its
// tools, of the version that go.mod names.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"graven":  main,
		"etcd":    func() { etcdmain.Main(os.Args) },
		"etcdctl": ctlv3.MustStart,
		"etcdutl": etcdutlMain,
		"sitectl": sitectl,
	})
}

// etcdutlMain is what etcdutl's own main package puts together.
func etcdutlMain() {
	root := &cobra.Command{Use: "etcdutl"}
	root.PersistentFlags().DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait for the lock of a database")
	root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "output format")
	root.AddCommand(etcdutl.NewSnapshotCommand(), etcdutl.NewDefragCommand())
	if root.Execute() != nil {
		os.Exit(1)
	}
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
