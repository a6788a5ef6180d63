package store

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Limits of what a caller may ask for.
const (
	// ReplicaOverheadBytes is what a replica takes beyond its ring: two header
	// slots and a hint page of 4 KiB each.
	ReplicaOverheadBytes = 3 * 4096
	// MinLeaseTTL is the shortest lease; etcd cannot keep shorter ones through
	// an election.
	MinLeaseTTL = 2 * time.Second
	// MaxLeaseTTL is the longest lease.
	MaxLeaseTTL = time.Hour
	// MaxBytes bounds every size, so that sums stay far from overflow.
	MaxBytes = int64(1) << 50
	// MaxEpoch bounds epochs; it is the highest integer that JSON readers agree
	// on.
	MaxEpoch = uint64(1)<<53 - 1
	// MaxIncarnationJump is by how much an incarnation may exceed the recorded
	// one. Each start counts, also those of which the control plane never heard;
	// a daemon that restarts every second for a century stays below it. What is
	// above it was no count of starts, and once recorded it would shut the true
	// daemon out.
	MaxIncarnationJump = uint64(1) << 32
	// MaxReplicas is the most replicas of a log.
	MaxReplicas = 7
	// MaxInventory is the most replicas that a daemon may report.
	MaxInventory = 4096
)

// Options tune a Store. The zero value is good.
type Options struct {
	// Logger takes what Run has to say; slog.Default() if nil.
	Logger *slog.Logger
	// CallTimeout bounds each call's dealings with etcd; 5 s if zero. A call
	// returns ErrUnavailable after it.
	CallTimeout time.Duration
	// MaxLag is how old the view may be before Ready fails; 5 s if zero.
	MaxLag time.Duration
	// DaemonTTL and WriterTTL are the leases given when none was asked for;
	// 10 s if zero.
	DaemonTTL, WriterTTL time.Duration
	// ReportEvery is how often a daemon's replica summaries are rewritten at
	// most; 30 s if zero.
	ReportEvery time.Duration
	// IdempotencyTTL is for how long answers are kept at least; 1 h if zero.
	IdempotencyTTL time.Duration
	// JournalTTL is for how long the journal's entries are kept at least; 7
	// days if zero.
	JournalTTL time.Duration
	// OperatorTTL is for how long operators that have ended are listed at least;
	// 6 h if zero.
	OperatorTTL time.Duration
	// JournalEntries is how many entries of each sort are kept at most, with 1 KiB
	// for each on average: what people decide and what goes wrong, what a busy
	// cluster does all day, and a quarter as many refusals. A few more may be there
	// for a moment. 4096 if zero.
	JournalEntries int
	// RefusalWindow is for how long a peer's refusals are counted before they share
	// an entry; 10 min if zero.
	RefusalWindow time.Duration
	// RecoverAfter is for how long a writer that has not closed its log must have
	// been without a lease before a daemon is asked to recover the log: it may go on
	// writing all the while. 1 min if zero.
	RecoverAfter time.Duration
	// ServerName is what this server is called where the leader of the loops is
	// shown; the host's name and the process's number if empty.
	ServerName string
	// ElectionTTL is for how long the loops stand still at most after their leader
	// was cut off; 10 s if zero.
	ElectionTTL time.Duration
	// GrantPeriod is for how long grants made now serve for a first fence, and
	// twice that at most; 30 min if zero.
	GrantPeriod time.Duration
	// SubscriberBuffer is how many changes wait for a subscriber before it is
	// told that it is too slow; 256 if zero.
	SubscriberBuffer int
	// Lease is how keep-alives reach etcd. It is needed for a client that has
	// no connection of its own (in-process, see Embedded); otherwise nil.
	Lease pb.LeaseClient
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.CallTimeout, 5*time.Second)
	def(&o.MaxLag, 5*time.Second)
	def(&o.DaemonTTL, 10*time.Second)
	def(&o.WriterTTL, 10*time.Second)
	def(&o.ReportEvery, 30*time.Second)
	def(&o.IdempotencyTTL, time.Hour)
	def(&o.JournalTTL, 7*24*time.Hour)
	def(&o.OperatorTTL, 6*time.Hour)
	def(&o.RecoverAfter, time.Minute)
	def(&o.ElectionTTL, 10*time.Second)
	if o.ServerName == "" {
		host, _ := os.Hostname() // an empty one will do
		o.ServerName = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	def(&o.RefusalWindow, 10*time.Minute)
	if o.JournalEntries == 0 {
		o.JournalEntries = 4096
	}
	def(&o.GrantPeriod, 30*time.Minute)
	if o.SubscriberBuffer == 0 {
		o.SubscriberBuffer = 256
	}
	return o
}

func (o Options) validate() error {
	for _, f := range []struct {
		name string
		v    time.Duration
	}{
		{"CallTimeout", o.CallTimeout},
		{"MaxLag", o.MaxLag},
		{"ReportEvery", o.ReportEvery},
		{"IdempotencyTTL", o.IdempotencyTTL},
		{"JournalTTL", o.JournalTTL},
		{"OperatorTTL", o.OperatorTTL},
		{"RecoverAfter", o.RecoverAfter},
		{"RefusalWindow", o.RefusalWindow},
		{"GrantPeriod", o.GrantPeriod},
	} {
		if f.v < 0 {
			return invalid(f.name, "must not be negative")
		}
	}
	if o.JournalEntries < 1 {
		return invalid("JournalEntries", "must be positive")
	}
	if o.SubscriberBuffer < 1 {
		return invalid("SubscriberBuffer", "must be positive")
	}
	if err := checkTTL("DaemonTTL", o.DaemonTTL); err != nil {
		return err
	}
	if err := checkTTL("WriterTTL", o.WriterTTL); err != nil {
		return err
	}
	return checkTTL("ElectionTTL", o.ElectionTTL)
}

func checkTTL(field string, d time.Duration) error {
	if d < MinLeaseTTL || d > MaxLeaseTTL {
		return invalid(field, "must be between %v and %v, not %v", MinLeaseTTL, MaxLeaseTTL, d)
	}
	return nil
}
