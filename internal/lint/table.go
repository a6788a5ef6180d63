package lint

// Everything stands in a row's imports for any package of the module but harnesses.
const Everything = "*"

// Package is one row of the import table. Paths are relative to the module.
type Package struct {
	Path string

	// Imports names the packages of ours that its code may import.
	Imports []string

	// Tests names those that only its tests may import. Harnesses need no mention.
	Tests []string

	// Pure packages decide and compute; they do no I/O, read no clock and start nothing.
	Pure bool

	// Harness marks code that exists for tests.
	Harness bool
}

// Table is the architecture as a list: each package may import only packages
// that stand below it. To add a package, put its row as low as its imports
// allow and name as few imports as it needs; an arrow that would have to point
// up is a sign that something lives in the wrong place.
func Table() []Package {
	return []Package{
		{Path: "cmd/graven", Imports: []string{Everything}},
		{Path: "internal/soak", Imports: []string{
			"openapi", "pmemlog", "pmemlog/format", "replog", "replog/control", "internal/fleet", "apiclient",
		}, Harness: true},
		{Path: "agent", Imports: []string{
			"openapi", "rdmaio", "rdmaio/tcp", "pmemlog", "pmemlog/format", "replog", "replog/control", "grant", "apiclient",
		}, Tests: []string{"server", "store", "placement", "identity"}},
		{Path: "replog/control", Imports: []string{"apiclient", "openapi", "replog", "replog/core", "pmemlog/format"}},
		{
			Path: "replog", Imports: []string{"rdmaio", "rdmaio/tcp", "pmemlog/format", "replog/core"},
			Tests: []string{"pmemlog"},
		},
		{Path: "replog/sim", Imports: []string{"replog/core", "pmemlog", "pmemlog/format", "pmemlog/pmemtest"}, Harness: true},
		{Path: "replog/core", Imports: []string{"pmemlog/format"}, Pure: true},
		{Path: "server", Imports: []string{"openapi", "store", "placement", "identity", "web"}, Tests: []string{"grant"}},
		{Path: "store", Imports: []string{"placement", "planner", "grant", "identity"}},
		{Path: "planner", Imports: []string{"placement"}, Pure: true},
		{Path: "placement", Pure: true},
		{Path: "rdmaio/tcp", Imports: []string{"rdmaio", "pmemlog/format", "pmemlog/crc32c"}},
		{Path: "rdmaio", Imports: []string{"pmemlog/format"}},
		{Path: "pmemlog/pmemtest", Imports: []string{"pmemlog", "pmemlog/crc32c"}, Harness: true},
		{Path: "pmemlog", Imports: []string{"pmemlog/format", "pmemlog/persist", "pmemlog/crc32c"}},
		{Path: "pmemlog/persist", Imports: []string{"pmemlog/crc32c"}},
		{Path: "pmemlog/format", Imports: []string{"pmemlog/crc32c"}, Pure: true},
		{Path: "pmemlog/crc32c", Pure: true},
		{Path: "grant"},
		{Path: "apiclient", Imports: []string{"openapi"}},
		{Path: "identity"},
		{Path: "openapi"},
		{Path: "web"},
		{Path: "internal/fleet", Harness: true},
		{Path: "internal/lint", Harness: true},
		{Path: "internal/faultproxy", Harness: true},
		{Path: "internal/golden", Harness: true},
	}
}
