package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	caller "github.com/gravenio/graven/identity"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"golang.org/x/sys/unix"
)

// ErrFolderInUse is returned when another process has etcd running in the
// folder.
var ErrFolderInUse = errors.New("store: etcd folder is in use by another process")

// EmbeddedOptions tune StartEmbedded. The zero value is good.
type EmbeddedOptions struct {
	// ClientPort and PeerPort are on 127.0.0.1; 0 takes a free one.
	ClientPort, PeerPort int
	// QuotaBytes is how large the database may grow; etcd's default if 0.
	QuotaBytes int64
	// TLS, if it names files, makes etcd serve with TLS only, and only those who
	// have a certificate of the authorities in it. etcd reads certificate and key
	// again for each connection.
	TLS caller.Files
	// Logger takes etcd's own log, at least one level below what etcd calls
	// it; slog.Default() if nil.
	Logger *slog.Logger
}

// Embedded is a single-member etcd in this process. It keeps everything in its
// folder, syncs what it has acknowledged, and compacts its history hourly.
type Embedded struct {
	// Client talks to it without a socket. Close closes it.
	Client *clientv3.Client
	// Lease goes into Options.Lease.
	Lease pb.LeaseClient

	etcd   *embed.Etcd
	scheme string
	lock   *os.File
	close  sync.Once

	using  sync.RWMutex
	closed bool
}

// maintenance keeps a member's status from being read out of a database that is
// being closed: without a socket in between, nothing else would.
type maintenance struct {
	clientv3.Maintenance
	e *Embedded
}

// Status implements clientv3.Maintenance.
func (m maintenance) Status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	m.e.using.RLock()
	defer m.e.using.RUnlock()
	if m.e.closed {
		return nil, fmt.Errorf("%w: it is closed", ErrUnavailable)
	}
	return m.Maintenance.Status(ctx, endpoint)
}

// StartEmbedded starts etcd in the folder, which is made if need be, and
// returns when it serves. Without TLS, anyone who may connect to its loopback ports
// may read and write all of it.
func StartEmbedded(ctx context.Context, dir string, o EmbeddedOptions) (*Embedded, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	etcd, err := embed.StartEtcd(o.config(dir))
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("store: start etcd in %s: %w", dir, err)
	}
	e := &Embedded{etcd: etcd, scheme: o.scheme(), lock: lock}
	select {
	case <-etcd.Server.ReadyNotify():
	case err = <-etcd.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = e.Close()
		return nil, fmt.Errorf("store: start etcd in %s: %w", dir, err)
	}
	e.Client = v3client.New(etcd.Server)
	e.Client.Maintenance = maintenance{e.Client.Maintenance, e}
	e.Lease = adapter.LeaseServerToLeaseClient(v3rpc.NewQuotaLeaseServer(etcd.Server))
	return e, nil
}

func (o EmbeddedOptions) config(dir string) *embed.Config {
	at := func(port int) url.URL {
		return url.URL{Scheme: o.scheme(), Host: fmt.Sprintf("127.0.0.1:%d", port)}
	}
	c := embed.NewConfig()
	c.Name = "graven"
	c.Dir = filepath.Join(dir, "data")
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{at(o.ClientPort)}, []url.URL{at(o.ClientPort)}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{at(o.PeerPort)}, []url.URL{at(o.PeerPort)}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	if !o.TLS.Empty() {
		info := transport.TLSInfo{
			CertFile: o.TLS.Cert, KeyFile: o.TLS.Key, TrustedCAFile: o.TLS.CA, ClientCertAuth: true, MinVersion: tls.VersionTLS13,
		}
		c.ClientTLSInfo, c.PeerTLSInfo = info, info
	}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	c.QuotaBackendBytes = o.QuotaBytes
	c.EnableGRPCGateway = false
	c.WarningUnaryRequestDuration = time.Second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(bridge(o.Logger))
	return c
}

func (o EmbeddedOptions) scheme() string {
	if o.TLS.Empty() {
		return "http"
	}
	return "https"
}

// lockFolder keeps a second process out: etcd itself would wait for ever.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make etcd folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: lock etcd folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrFolderInUse, dir)
		}
		return nil, fmt.Errorf("store: lock etcd folder %s: %w", dir, err)
	}
	return f, nil
}

// Endpoint is the URL at which etcd's own tools can reach it.
func (e *Embedded) Endpoint() string {
	return e.scheme + "://" + e.etcd.Clients[0].Addr().String()
}

// Err delivers the error that made etcd stop by itself.
func (e *Embedded) Err() <-chan error { return e.etcd.Err() }

// Close stops etcd and returns when it has stopped. Close what uses Client
// first. It may be called more than once.
func (e *Embedded) Close() error {
	var err error
	e.close.Do(func() {
		e.using.Lock()
		e.closed = true
		e.using.Unlock()
		if e.Client != nil {
			err = e.Client.Close()
		}
		e.etcd.Close()
		err = errors.Join(err, e.lock.Close())
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
