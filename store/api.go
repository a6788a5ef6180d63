package store

import (
	"context"
	"errors"
	"time"

	"github.com/gravenio/graven/placement"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var errSoon = errors.New("not yet")

type Store struct{}

// New validates and starts nothing; the client stays the caller's.
func New(client *clientv3.Client, o Options) (*Store, error) { return nil, errSoon }

// Run makes the cluster's identity if it is new, feeds the view, blocks until ctx ends.
func (s *Store) Run(ctx context.Context) error { return errSoon }

// WaitReady blocks until Ready returns nil or ctx ends.
func (s *Store) WaitReady(ctx context.Context) error { return errSoon }

// Ready returns nil when identity is known and the view is fresh enough.
func (s *Store) Ready() error                 { return errSoon }
func (s *Store) ClusterID() string            { return "" }
func (s *Store) GrantKeys() map[string]string { return nil }
func (s *Store) View() *View                  { return nil }

func (s *Store) Register(ctx context.Context, r RegisterRequest) (*Registration, error) {
	return nil, errSoon
}
func (s *Store) Heartbeat(ctx context.Context, r HeartbeatRequest) (*HeartbeatAnswer, error) {
	return nil, errSoon
}

// Leave revokes the daemon's lease: it is down at once.
func (s *Store) Leave(ctx context.Context, daemonID string, incarnation uint64) error { return errSoon }

// DeleteDaemon: ifMatch is a ModRevision or 0.
func (s *Store) DeleteDaemon(ctx context.Context, daemonID string, lost bool, ifMatch int64) error {
	return errSoon
}
func (s *Store) SetDraining(ctx context.Context, daemonID string, draining bool, ifMatch int64) error {
	return errSoon
}
func (s *Store) CreateLog(ctx context.Context, r CreateLogRequest) (*Log, error) { return nil, errSoon }
func (s *Store) OpenLog(ctx context.Context, r OpenLogRequest) (*OpenAnswer, error) {
	return nil, errSoon
}
func (s *Store) Renew(ctx context.Context, w WriterRef) (*RenewAnswer, error) { return nil, errSoon }
func (s *Store) CloseLog(ctx context.Context, w WriterRef) error              { return errSoon }
func (s *Store) SetReplicas(ctx context.Context, r SetReplicasRequest) (*Log, error) {
	return nil, errSoon
}
func (s *Store) DeleteLog(ctx context.Context, log string, ifMatch int64) error { return errSoon }

// Events streams what happened after revision `after` (0: from now on).
func (s *Store) Events(ctx context.Context, after int64) (*Subscription, error) { return nil, errSoon }

// Subscription: read C until closed, then Err. Close is idempotent.
type Subscription struct{ C <-chan Event }

func (s *Subscription) Err() error { return errSoon }
func (s *Subscription) Close()     {}

type EventKind string

const (
	EventDaemon EventKind = "daemon"
	EventLog    EventKind = "log"
)

// Event is one change.
type Event struct {
	Revision int64     `json:"revision"`
	Kind     EventKind `json:"kind"`
	ID       string    `json:"id"`
	Deleted  bool      `json:"deleted,omitempty"`
	Daemon   *Daemon   `json:"daemon,omitempty"`
	Log      *Log      `json:"log,omitempty"`
}

// View is the in-memory picture. All methods are safe for concurrent use and return copies.
type View struct{}

func (v *View) Revision() int64                                                 { return 0 }
func (v *View) Lag() time.Duration                                              { return 0 }
func (v *View) Daemons() ([]Daemon, int64)                                      { return nil, 0 } // sorted by ID; and the revision
func (v *View) Daemon(id string) (Daemon, bool)                                 { return Daemon{}, false }
func (v *View) Logs() ([]Log, int64)                                            { return nil, 0 } // sorted by name
func (v *View) Log(idOrName string) (Log, bool)                                 { return Log{}, false }
func (v *View) Condemned() []Condemned                                          { return nil }
func (v *View) Place(r placement.Request, seed uint64) ([]string, int64, error) { return nil, 0, nil }

// WaitRevision blocks until the view has seen rev or ctx ends.
func (v *View) WaitRevision(ctx context.Context, rev int64) error { return nil }
