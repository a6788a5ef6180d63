package main

import (
	"context"
	"crypto/tls"
	"errors"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
)

// agentFlags are the flags of `graven agent`.
type agentFlags struct {
	id, dir, path, listen, advertise, media, durability, metrics, level string
	labels                                                              []string
	pool, recovered, scrubRate                                          size
	ttl, scrubEvery                                                     time.Duration
	insecure                                                            bool
}

func newAgent(a *app) *cobra.Command {
	fl := agentFlags{pool: agent.DefaultPoolSize, recovered: agent.DefaultRecoverBytes, scrubRate: agent.DefaultScrubRate}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a replica daemon that serves one pool",
		Long: `Run a replica daemon: it serves its pool to writers and registers with the API.
The pool remembers its daemon ID. The one in --dir is made at the first start;
one that --pool names must be there: make it with ` + "`graven pool format`" + `.`,
		Example: `  graven agent --id d1 --dir /var/lib/graven --listen 10.0.0.1:7071 --api http://10.0.0.9:7070 --label host=h1 --label zone=z1
  graven agent --id d2 --dir /var/lib/graven --media pmem --pool /mnt/pmem0/graven --listen 10.0.0.2:7071 --api http://10.0.0.9:7070
  graven agent --id d4 --dir ./d4 --pool-size 1GiB     # joins ` + "`graven dev`" + ` on this machine`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&fl.id, "id", "", "`ID` of the daemon: a-z, 0-9, '.', '_' and '-'")
	f.StringVar(&fl.dir, "dir", "", "`FOLDER` of the pool")
	f.StringVar(&fl.path, "pool", "", "`PATH` of a pool that is there: in a file, or on a block device or device-dax (default the file pool in --dir, which is made)")
	f.StringVar(&fl.listen, "listen", "127.0.0.1:0", "`HOST:PORT` to serve writers on; port 0 takes a free one")
	f.StringVar(&fl.advertise, "advertise", "", "`HOST` that writers are told to dial (default that of --listen)")
	f.StringArrayVar(&fl.labels, "label", nil, "where the daemon is, `KEY=VALUE`; may be repeated; host, rack and zone are failure domains")
	f.StringVar(&fl.media, "media", agent.MediaFile, "`MEDIUM` of the pool: file, pmem (persistent memory), or volatile (memory, for trying out)")
	durabilityFlag(f, &fl.durability)
	f.Var(&fl.pool, "pool-size", "size of a pool that is made anew in --dir; a file is sparse until it is used")
	f.Var(&fl.recovered, "recover-bytes", "largest log to recover when it has no writer; takes as much memory meanwhile")
	f.DurationVar(&fl.scrubEvery, "scrub-every", agent.DefaultScrubEvery, "how often to read and check the whole pool; negative for never")
	f.Var(&fl.scrubRate, "scrub-rate", "how fast to do so, in bytes a second")
	f.DurationVar(&fl.ttl, "ttl", 0, "lease to ask for, in whole seconds (default the server's)")
	f.StringVar(&fl.metrics, "metrics-listen", "", "`HOST:PORT` to serve /metrics and /healthz on (default nowhere)")
	insecureFlag(f, &fl.insecure)
	f.StringVar(&fl.level, "log-level", "info", "least `LEVEL` to log: debug, info, warn or error")
	settings(f, "label")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := fl.options(a)
		if err != nil {
			return err
		}
		defer watchExpiry(cmd.Context(), a.loaded)()
		return runAgent(cmd.Context(), o)
	}
	return cmd
}

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

const minScrubRate = 64 << 10 // bytes a second

func (fl *agentFlags) options(a *app) (agent.Options, error) {
	var o agent.Options
	labels, err := parseLabels(fl.labels)
	if err != nil {
		return o, err
	}
	if err := checkPoolMedia(fl.media, fl.durability); err != nil {
		return o, err
	}
	if fl.media != agent.MediaVolatile && fl.dir == "" {
		return o, usagef("--dir is missing: name the folder of the pool")
	}
	if fl.media == agent.MediaVolatile && fl.path != "" {
		return o, usagef("--pool is %q: a volatile pool is in memory and has no path", fl.path)
	}
	if fl.id == "" && fl.media == agent.MediaVolatile {
		return o, usagef("--id is missing: a volatile pool remembers none")
	}
	if fl.id != "" && !idPattern.MatchString(fl.id) {
		return o, usagef("--id is %q: must be 1 to 63 of a-z, 0-9, '.', '_' and '-', the first one a letter or digit", fl.id)
	}
	if err := fl.checkExposed(a.files.Cert != ""); err != nil {
		return o, err
	}
	if fl.ttl != 0 {
		if err := checkTTL(fl.ttl); err != nil {
			return o, err
		}
	}
	if fl.pool < 1 {
		return o, usagef("--pool-size must be positive")
	}
	if fl.recovered < 1 {
		return o, usagef("--recover-bytes must be positive")
	}
	if fl.scrubRate < minScrubRate {
		return o, usagef("--scrub-rate must be at least 64KiB; --scrub-every -1s turns scrubs off")
	}
	endpoints, err := parseEndpoints(a.endpoints)
	if err != nil {
		return o, err
	}
	log, err := newLogger(a.err, fl.level)
	if err != nil {
		return o, err
	}
	api, err := a.apiOptions(endpoints, log)
	if err != nil {
		return o, err
	}
	api.Logger = log
	o = agent.Options{
		Endpoints: endpoints, API: api,
		ID: fl.id, Dir: fl.dir, Pool: fl.path, Media: fl.media, Durability: pmemlog.Durability(fl.durability), PoolSize: int64(fl.pool),
		Listen: fl.listen, Advertise: fl.advertise, MetricsListen: fl.metrics,
		LeaseTTL: fl.ttl, Labels: labels, Version: version, Logger: log,
		RecoverBytes: int64(fl.recovered), ScrubEvery: fl.scrubEvery, ScrubRate: int64(fl.scrubRate),
	}
	return o, fl.secure(a, &o)
}

// checkExposed refuses addresses that others could reach without proving anything.
func (fl *agentFlags) checkExposed(secured bool) error {
	if err := checkExposed("--listen", fl.listen, secured, fl.insecure); err != nil {
		return err
	}
	if fl.metrics == "" {
		return nil
	}
	return checkExposed("--metrics-listen", fl.metrics, secured, fl.insecure)
}

// secure has the agent serve with TLS if it has a certificate. Writers prove the
// key in their grant; those who read metrics, a certificate of the authorities.
func (fl *agentFlags) secure(a *app, o *agent.Options) error {
	t, err := a.tls(false, o.Logger)
	if err != nil || t == nil || a.files.Cert == "" {
		return err
	}
	if o.TLS, err = t.Server(tls.RequireAnyClientCert); err != nil {
		return trimmed(err)
	}
	o.CertificateExpires = func() time.Time { return t.Expiry().At }
	o.DialTLS = func(_, host string) (*tls.Config, error) { return t.Client(host), nil }
	if fl.metrics == "" {
		return nil
	}
	if o.MetricsTLS, err = t.Server(tls.RequireAndVerifyClientCert); err != nil {
		return trimmed(err)
	}
	return nil
}

func runAgent(ctx context.Context, o agent.Options) error {
	ag, err := agent.New(o)
	if err != nil {
		return err
	}
	return errors.Join(ag.Run(ctx), ag.Close())
}
