package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/server"
	"github.com/gravenio/graven/store"
)

// maxDevDaemons bounds --daemons: each is a process.
const maxDevDaemons = 64

// devFlags are the flags of `graven dev`.
type devFlags struct {
	data, api, media, durability string
	daemons                      int
	ttl                          time.Duration
	pool                         size
	tls                          bool
}

func newDev(a *app) *cobra.Command {
	fl := devFlags{pool: agent.DefaultPoolSize}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine",
		Long: `Run a whole cluster on this machine: etcd and the API in this process, each agent
in a process of its own. It serves loopback only. With --tls everybody proves who he
is, by certificates of an authority that is made in --data/tls; set GRAVEN_CONFIG to
--data/cli.yaml to have the other commands do so, too. Everything is kept in --data,
where the next start finds it again (except on --media volatile). Ctrl-C ends it.

An agent that ends is not started again: that is for you to try, with the command
printed for it.`,
		Example: `  graven dev
  graven dev --data /tmp/graven --api 127.0.0.1:0 --daemons 5 --ttl 5s
  graven dev --tls                # then: export GRAVEN_CONFIG=$PWD/graven-data/cli.yaml
  graven dev --media volatile     # faster, and gone at the end
  graven dev --media pmem --data /mnt/pmem0/graven
  graven dev --media pmem --durability flush --data /dev/shm/graven   # the code path of pmem, on memory that a restart empties`,
		Args: exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&fl.data, "data", "./graven-data", "`FOLDER` that keeps everything")
	f.StringVar(&fl.api, "api", defaultAPI, "`HOST:PORT` to serve the API on; port 0 takes a free one")
	f.IntVar(&fl.daemons, "daemons", 3, "how many agents to run")
	f.DurationVar(&fl.ttl, "ttl", 10*time.Second, "lease of the daemons and writers, in whole seconds")
	f.StringVar(&fl.media, "media", agent.MediaFile, "`MEDIUM` of the pools: file (fdatasync), pmem (persistent memory), or volatile (memory)")
	durabilityFlag(f, &fl.durability)
	f.Var(&fl.pool, "pool-size", "size of each pool; a file is sparse until it is used")
	f.BoolVar(&fl.tls, "tls", false, "use TLS and certificates everywhere: API, daemons and etcd")
	settings(f, "api") // GRAVEN_API is where clients look for it, not where it listens
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fl.check(); err != nil {
			return err
		}
		if !a.files.Empty() {
			return usagef("--tls-ca, --tls-cert and --tls-key are for other commands: dev makes its own with --tls")
		}
		return runDev(cmd.Context(), a, fl)
	}
	return cmd
}

func (fl *devFlags) check() error {
	host, _, err := net.SplitHostPort(fl.api)
	if err != nil {
		return usagef("--api is %q: must be HOST:PORT", fl.api)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--api is %q: a development cluster serves loopback only, such as %s", fl.api, defaultAPI)
	}
	if fl.daemons < 1 || fl.daemons > maxDevDaemons {
		return usagef("--daemons is %d: must be 1 to %d", fl.daemons, maxDevDaemons)
	}
	if fl.pool < 1 {
		return usagef("--pool-size must be positive")
	}
	if err := checkPoolMedia(fl.media, fl.durability); err != nil {
		return err
	}
	return checkTTL(fl.ttl)
}

// dev is a running cluster.
type dev struct {
	*app
	devFlags
	began  time.Time
	folder *devFolder
	url    string // of the API
	self   string // path of this binary
	ln     net.Listener
	etcd   *store.Embedded
	store  *store.Store
	agents []*child

	// With --tls.
	ca        *devTLS
	etcdFiles identity.Files
	who       *identity.Authenticator
	serving   *tls.Config

	print sync.Mutex
}

func runDev(ctx context.Context, a *app, fl devFlags) (err error) {
	d := &dev{app: a, devFlags: fl, began: time.Now()}
	if d.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	if d.folder, err = openDevFolder(ctx, fl.data, fl.media); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.folder.close()) }()
	if d.ln, err = listenTCP("--api", fl.api); err != nil {
		return err
	}
	defer d.ln.Close()
	d.url = "http://" + d.ln.Addr().String()
	if err := d.secure(); err != nil {
		return err
	}
	return d.run(ctx)
}

// say prints a line for the person who started the cluster.
func (d *dev) say(w io.Writer, format string, args ...any) {
	d.print.Lock()
	defer d.print.Unlock()
	fmt.Fprintf(w, format+"\n", args...)
}

// run starts the parts in order, waits, and ends them in the opposite order.
func (d *dev) run(ctx context.Context) error {
	logFile, err := d.folder.logFile("server")
	if err != nil {
		return err
	}
	defer logFile.Close()
	log, err := newLogger(logFile, "info")
	if err != nil {
		return err
	}
	d.say(d.out, "data    %s (log files in %s)", d.folder.path, d.folder.logs())
	if d.etcd, err = store.StartEmbedded(ctx, d.folder.etcd(), store.EmbeddedOptions{Logger: log, TLS: d.etcdFiles}); err != nil {
		return err
	}
	defer d.etcd.Close()
	d.say(d.out, "etcd    pid %-7d %s", os.Getpid(), d.etcd.Endpoint())
	if d.store, err = store.New(d.etcd.Client, store.Options{Logger: log, DaemonTTL: d.ttl, WriterTTL: d.ttl, Lease: d.etcd.Lease}); err != nil {
		return err
	}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		served <- serveAPI(serving, d.store, d.ln, server.Options{
			Logger: log, Version: version, LoopbackOnly: true, Identities: d.who, TLS: d.serving,
		})
	}()
	d.say(d.out, "server  pid %-7d %s", os.Getpid(), d.url)

	err = d.attend(ctx, served)
	d.stopAgents()
	stopServing()
	err = errors.Join(err, <-served)
	if ctx.Err() != nil && err == nil {
		d.say(d.out, "stopped; the data is in %s", d.folder.path)
	}
	return err
}

// attend brings the cluster up and returns when it is to end. served gets back
// what it was given if the server ends by itself.
func (d *dev) attend(ctx context.Context, served chan error) error {
	up, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case err := <-served:
			served <- nil
			stop(fmt.Errorf("the API server ended: %w", err))
		case err := <-d.etcd.Err():
			stop(fmt.Errorf("etcd ended: %w", err))
		case <-up.Done():
		}
	}()
	err := d.bringUp(up)
	if err == nil {
		<-up.Done()
	}
	if cause := context.Cause(up); up.Err() != nil {
		err = nil
		if ctx.Err() == nil {
			err = cause
		}
	}
	stop(nil)
	<-watched
	return err
}

// bringUp starts the agents and returns when a log can be created.
func (d *dev) bringUp(ctx context.Context) error {
	if err := d.store.WaitReady(ctx); err != nil {
		return fmt.Errorf("the API did not get ready: %w", err)
	}
	before := d.incarnations()
	for i := range d.daemons {
		c, err := d.startAgent(fmt.Sprintf("d%d", i+1))
		if err != nil {
			return err
		}
		d.agents = append(d.agents, c)
	}
	up, err := d.waitUp(ctx, before)
	if err != nil {
		return err
	}
	d.announce(up)
	return nil
}

func (d *dev) logPath(part string) string { return filepath.Join(d.folder.logs(), part+".log") }
