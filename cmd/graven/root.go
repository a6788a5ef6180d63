package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// app is what the commands share: the streams and the global flags.
type app struct {
	streams
	credentials
	endpoints string
	output    string
	config    string
}

// Output formats.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// defaultAPI is where `graven dev` and `graven server` listen unless told otherwise.
const defaultAPI = "127.0.0.1:7070"

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "graven",
		Short: "A replicated write log in the persistent memory of several machines",
		Long: `Graven keeps a write log on several machines: a record is acknowledged once
enough of them have made it persistent.

Flags can also be set by environment variables (--api by GRAVEN_API, --tls-ca by
GRAVEN_TLS_CA; for server, agent and dev every flag: --pool-size by
GRAVEN_POOL_SIZE) and by a YAML file of flag names and values (--config or
GRAVEN_CONFIG). A flag wins over the variable, the variable over the file.

Exit status: 0 done, 1 failed, 2 wrong usage.`,
		Example: `  graven dev                                # a cluster on this machine
  graven log create l1 --replicas 3 --ack 2 --capacity 256MiB
  graven log append l1 FILE
  graven log read l1 | cmp - FILE`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return needSubcommand(cmd) },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := applySettings(cmd, a.config); err != nil {
				return err
			}
			return a.check()
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.endpoints, "api", "http://"+defaultAPI, "address of the API; several, separated by commas, are tried in turn")
	f.StringVarP(&a.output, "output", "o", outputTable, "`FORMAT` of the result: table or json")
	a.flags(f)
	f.StringVar(&a.config, "config", "", "`FILE` with settings (YAML)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%s", err) })
	root.AddCommand(
		newDev(a), newServer(a), newAgent(a),
		newDaemon(a), newPlace(a), newLog(a), newKey(a), newPool(a), newOperator(a), newCA(a), newToken(a),
		newStatus(a), newWatch(a), newEvents(a), newBench(a), newVersion(a),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

func (a *app) check() error {
	if a.output != outputTable && a.output != outputJSON {
		return usagef("--output is %q: must be table or json", a.output)
	}
	return nil
}

// group is a command that only has subcommands.
func group(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return needSubcommand(cmd) },
	}
	for _, s := range subs {
		if s.Example != "" {
			cmd.Example += s.Example + "\n"
		}
	}
	cmd.Example = strings.TrimSuffix(cmd.Example, "\n")
	cmd.AddCommand(subs...)
	return cmd
}

// subcommand refuses what is no subcommand, and suggests what was meant.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		text += ": did you mean " + strings.Join(s, " or ") + "?"
	}
	return usagef("%s", text)
}

func needSubcommand(cmd *cobra.Command) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usagef("%s needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
}

// exactly wants one argument for each name; one in brackets may be left out.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usagef("unexpected argument %q", args[len(names)])
		}
		for i, n := range names {
			if i >= len(args) && !strings.HasPrefix(n, "[") {
				return usagef("%s is missing", n)
			}
			if i < len(args) && args[i] == "" {
				return usagef("%s is empty", n)
			}
		}
		return nil
	}
}

// note tells the person at the terminal something that is no result.
func note(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, format+"\n", args...)
}
