package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// build is what `graven version` tells of this binary.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Example: `  graven version
  graven version -o json`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			b := build{
				Version: version, Commit: commit, Date: date,
				Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
			}
			return a.showValue(b, func(t *table) {
				t.row(fmt.Sprintf("graven %s (commit %s of %s, %s %s/%s)", b.Version, b.Commit, b.Date, b.Go, b.OS, b.Arch))
			})
		},
	}
}
