package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/pmemlog"
)

// poolExportFlags are the flags of `pool export`.
type poolExportFlags struct {
	from    uint64
	out     string
	damaged bool
}

func newPoolExport(a *app) *cobra.Command {
	var fl poolExportFlags
	cmd := &cobra.Command{
		Use:   "export PATH REPLICA-or-LOG",
		Short: "Write the payloads of a replica's records to standard output",
		Long: `Write the payloads of the records of a replica in a pool to standard output, one
behind the other and nothing else, as ` + "`graven log read`" + ` does, but without any
server or agent. It is for when too little of a cluster is left to open the log.

One replica can't tell what an ack quorum has acknowledged: the last records may
never have been, and other replicas may hold more. One that is known to have lost
something, or can't be read in full, is refused unless --damaged says that what
there is will do; what is missing is told on standard error.`,
		Example: `  graven pool export ./graven-data/d1 4f1c > FILE
  graven pool export /var/lib/graven 4f1c --out FILE --from 1048576
  graven pool export /var/lib/graven 4f1c --damaged --out FILE`,
		Args: exactly("PATH", "REPLICA-or-LOG"),
	}
	f := cmd.Flags()
	f.Uint64Var(&fl.from, "from", 0, "first `LSN` to write: where a record begins (default the trim LSN)")
	f.StringVar(&fl.out, "out", "", "write to this new `FILE`; one that exists is not overwritten")
	f.BoolVar(&fl.damaged, "damaged", false, "write what there is, even if something is known to be missing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withPool(cmd.Context(), args[0], func(v *poolView) error {
			r, err := v.findOne(cmd.Context(), args[1], wanted{logs: true, space: true})
			if err != nil {
				return err
			}
			return a.exportReplica(cmd.Context(), v, r, fl)
		})
	}
	return cmd
}

func (a *app) exportReplica(ctx context.Context, v *poolView, r pmemlog.Region, fl poolExportFlags) error {
	o := pmemlog.ExportOptions{From: fl.from, Doubtful: fl.damaged}
	var res pmemlog.Exported
	write := func(out io.Writer) error {
		buf := bufio.NewWriterSize(out, 1<<20)
		var err error
		res, err = v.Export(ctx, r, buf, o)
		return errors.Join(err, buf.Flush())
	}
	var err error
	if fl.out != "" {
		err = writeNew(fl.out, write)
	} else {
		err = write(a.out)
	}
	if errors.Is(err, pmemlog.ErrDoubtful) {
		return withHint(err, "recover the log from its other replicas if you can; --damaged writes what there is")
	}
	if err != nil {
		return err
	}
	a.exported(&res)
	return nil
}

// exported tells what was written, and what was not.
func (a *app) exported(res *pmemlog.Exported) {
	note(a.err, "note: %s, %s, LSN %d to %d of replica %s", count(res.Records, "record"), exactSize(res.Bytes), res.From, res.To, res.View.Replica)
	if res.From > 0 && res.From == res.View.Slot.Trim.LSN {
		note(a.err, "note: the log was trimmed up to LSN %d", res.From)
	}
	for _, f := range res.View.Findings {
		if f.Severity == pmemlog.SeverityDamage {
			note(a.err, "note: this is not all: %s: %s", f.Part, f.What)
		}
	}
}

// writeNew fills a new file, and leaves none behind when that fails.
func writeNew(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return withHint(fmt.Errorf("%s exists already", path), "choose another --out, or remove that file")
	}
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
