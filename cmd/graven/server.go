package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gravenio/graven/server"
	"github.com/gravenio/graven/store"
)

func newServer(a *app) *cobra.Command {
	var endpoints []string
	var listen, level, audit string
	var ttl time.Duration
	var who identityFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run an API server over an etcd cluster",
		Long: `Run an API server. It keeps nothing of its own: any number may run over one etcd,
behind any balancer.

With --tls-cert and --tls-key it serves with TLS and asks everybody who he is: by a
certificate of --tls-ca, a token of --tokens, or a JSON Web Token. Without, everybody
who reaches it may do everything; so it serves loopback only then, unless told
otherwise by --insecure. docs/security.md says who may do what.`,
		Example: `  graven server --etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379
  graven server --etcd-endpoints http://127.0.0.1:2379 --listen 127.0.0.1:7070
  graven server --etcd-endpoints https://10.0.0.1:2379 --etcd-ca ca.crt --etcd-cert api1.crt --etcd-key api1.key \
    --listen 10.0.0.9:7070 --tls-ca ca.crt --tls-cert api1.crt --tls-key api1.key --tokens tokens`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringSliceVar(&endpoints, "etcd-endpoints", nil, "`URL`s of etcd, separated by commas")
	f.StringVar(&listen, "listen", defaultAPI, "`HOST:PORT` to serve the API on")
	f.DurationVar(&ttl, "ttl", 10*time.Second, "lease of daemons and writers that ask for none")
	who.flags(f)
	f.StringVar(&audit, "audit-log", "", "append who changed what, or was refused, to this `FILE` as JSON lines (default into the log)")
	f.StringVar(&level, "log-level", "info", "least `LEVEL` to log: debug, info, warn or error")
	settings(f)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(endpoints) == 0 {
			return usagef("--etcd-endpoints is missing; for a cluster without an etcd of your own see `graven dev`")
		}
		if err := checkTTL(ttl); err != nil {
			return err
		}
		log, err := newLogger(a.err, level)
		if err != nil {
			return err
		}
		if err := checkExposed("--listen", listen, a.files.Cert != "", who.insecure); err != nil {
			return err
		}
		o, err := who.options(a, log)
		if err != nil {
			return err
		}
		dial, err := who.etcd(log)
		if err != nil {
			return err
		}
		records, endAudit, err := openAudit(audit, log)
		if err != nil {
			return err
		}
		defer endAudit()
		o.Audit = records
		ln, err := listenTCP("--listen", listen)
		if err != nil {
			return err
		}
		defer watchExpiry(cmd.Context(), a.loaded, who.etcdLoaded)()
		return serveExternal(cmd.Context(), endpoints, dial, ln, ttl, o)
	}
	return cmd
}

func serveExternal(ctx context.Context, endpoints []string, dial store.DialOptions, ln net.Listener, ttl time.Duration, o server.Options) error {
	defer ln.Close()
	log := o.Logger
	etcd, err := store.Dial(ctx, endpoints, dial)
	if err != nil {
		return withHint(err, "check --etcd-endpoints (%s) and that etcd runs there", strings.Join(endpoints, ","))
	}
	defer etcd.Close()
	st, err := store.New(etcd.Client, store.Options{Logger: log, DaemonTTL: ttl, WriterTTL: ttl, Lease: etcd.Lease})
	if err != nil {
		return err
	}
	log.Info("serving the API", "address", ln.Addr().String(), "version", version)
	err = serveAPI(ctx, st, ln, o)
	log.Info("stopped")
	return err
}

// serveAPI runs store and server until ctx ends, the server first.
func serveAPI(ctx context.Context, st *store.Store, ln net.Listener, o server.Options) error {
	srv, err := server.New(st, o)
	if err != nil {
		return err
	}
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return st.Run(storeCtx) })
	g.Go(func() error {
		defer stopStore()
		return srv.Run(ctx, ln)
	})
	return g.Wait()
}

// checkTTL refuses leases that the store can't give.
func checkTTL(ttl time.Duration) error {
	if ttl < store.MinLeaseTTL || ttl > store.MaxLeaseTTL || ttl%time.Second != 0 {
		return usagef("--ttl is %v: must be whole seconds from %v to %v", ttl, store.MinLeaseTTL, store.MaxLeaseTTL)
	}
	return nil
}

// listenTCP listens, and says which address is taken if it can't.
func listenTCP(flag, address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, usagef("%s is %q: must be HOST:PORT", flag, address)
	}
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(address)
		return nil, withHint(fmt.Errorf("port %s is in use: another program listens on %s", port, address),
			"stop it (see `ss -ltnp 'sport = :%s'`) or give another address with %s", port, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return ln, nil
}
