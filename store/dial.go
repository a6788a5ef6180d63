package store

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// DialOptions tune Dial. The zero value is good.
type DialOptions struct {
	// Timeout bounds Dial; 5 s if zero.
	Timeout time.Duration
	// TLS makes the configuration of each connection to https endpoints, given
	// the endpoint's host; it is asked each time, so that certificates and
	// authorities change without a restart. It must be set for https, and only then.
	TLS func(host string) *tls.Config
	// Logger takes the client's own log, as for Embedded; slog.Default() if
	// nil.
	Logger *slog.Logger
}

// External is a connection to an etcd that runs elsewhere.
type External struct {
	// Client is for New. Close closes it.
	Client *clientv3.Client
	// Lease goes into Options.Lease: it sends keep-alives to etcd's leader.
	Lease pb.LeaseClient

	leader *leaderLease
}

// Dial connects to etcd and makes sure that it answers. The error wraps
// ErrUnavailable and names the endpoints if it does not.
func Dial(ctx context.Context, endpoints []string, o DialOptions) (*External, error) {
	if len(endpoints) == 0 {
		return nil, invalid("etcd-endpoints", "must name at least one, such as http://127.0.0.1:2379")
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := checkSchemes(endpoints, o.TLS != nil); err != nil {
		return nil, err
	}
	config := clientv3.Config{
		Endpoints: endpoints, DialTimeout: o.Timeout,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		Logger: bridge(o.Logger),
	}
	if o.TLS != nil {
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS13} // It says that there is TLS; the option says how.
		config.DialOptions = []grpc.DialOption{grpc.WithTransportCredentials(fresh{credentials.NewTLS(config.TLS), o.TLS})}
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("store: etcd endpoints %v: %w: %w", endpoints, ErrUnavailable, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, errCallTimeout)
	defer cancel()
	if _, err := client.Get(ctx, keyCluster); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("store: etcd endpoints %v: %w", endpoints, fail(ctx, "connect", err))
	}
	leader := &leaderLease{LeaseClient: pb.NewLeaseClient(client.ActiveConnection()), main: client, config: config}
	return &External{Client: client, Lease: leader, leader: leader}, nil
}

// checkSchemes wants what is said of TLS to be true for every endpoint.
func checkSchemes(endpoints []string, secured bool) error {
	for _, e := range endpoints {
		if strings.HasPrefix(e, "https://") != secured {
			if secured {
				return invalid("etcd-endpoints", "%.200q must begin with https://, since certificates for etcd are given", e)
			}
			return invalid("etcd-endpoints", "%.200q needs certificates; give etcd's authority, and a certificate and key for it", e)
		}
	}
	return nil
}

// fresh makes the credentials of each connection anew.
type fresh struct {
	credentials.TransportCredentials
	config func(host string) *tls.Config
}

// ClientHandshake implements credentials.TransportCredentials.
func (f fresh) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	return credentials.NewTLS(f.config(host)).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (f fresh) Clone() credentials.TransportCredentials {
	return fresh{f.TransportCredentials.Clone(), f.config}
}

// Close ends the connections. Close what uses Client first.
func (x *External) Close() error {
	x.leader.drop()
	return x.Client.Close()
}

// leaderLease is a lease client whose keep-alive streams go to etcd's leader. A
// follower would hand every renewal on by HTTP.
type leaderLease struct {
	pb.LeaseClient // what goes anywhere
	main           *clientv3.Client
	config         clientv3.Config

	mu       sync.Mutex
	conn     *clientv3.Client // to endpoint; nil if none was needed yet
	endpoint string
}

// LeaseKeepAlive implements pb.LeaseClient.
func (l *leaderLease) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	endpoint := l.find(ctx)
	if endpoint == "" || len(l.config.Endpoints) == 1 {
		return l.LeaseClient.LeaseKeepAlive(ctx, opts...)
	}
	conn, err := l.connect(endpoint)
	if err != nil {
		return nil, err
	}
	return pb.NewLeaseClient(conn.ActiveConnection()).LeaseKeepAlive(ctx, opts...)
}

// Moved implements follower.
func (l *leaderLease) Moved(ctx context.Context) bool {
	if len(l.config.Endpoints) == 1 {
		return false
	}
	l.mu.Lock()
	at := l.endpoint
	l.mu.Unlock()
	endpoint := l.find(ctx)
	return endpoint != "" && endpoint != at
}

// find asks all endpoints at once, because a dead one answers late, and returns
// the leader's, or "" if none of them says that it is.
func (l *leaderLease) find(ctx context.Context) string {
	if len(l.config.Endpoints) == 1 {
		return l.config.Endpoints[0]
	}
	ctx, cancel := context.WithTimeout(ctx, l.config.DialTimeout)
	defer cancel()
	found := make(chan string, len(l.config.Endpoints))
	var wg sync.WaitGroup
	for _, endpoint := range l.config.Endpoints {
		wg.Go(func() {
			status, err := l.main.Status(ctx, endpoint)
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				found <- endpoint
				cancel()
			}
		})
	}
	wg.Wait()
	select {
	case endpoint := <-found:
		return endpoint
	default:
		return ""
	}
}

func (l *leaderLease) connect(endpoint string) (*clientv3.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && l.endpoint == endpoint {
		return l.conn, nil
	}
	config := l.config
	config.Endpoints = []string{endpoint}
	conn, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("store: connect to etcd's leader at %s: %w", endpoint, err)
	}
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.conn, l.endpoint = conn, endpoint
	return conn, nil
}

func (l *leaderLease) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}
