package replog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/gravenio/graven/rdmaio"
	"github.com/gravenio/graven/rdmaio/tcp"
	"github.com/gravenio/graven/replog/core"
)

// Dialer opens a session with the daemon at an address.
type Dialer func(ctx context.Context, address string, h rdmaio.Hello, ev rdmaio.Events) (rdmaio.Session, rdmaio.Welcome, error)

// DialTCP returns the Dialer of the TCP provider.
func DialTCP(o tcp.Options) Dialer {
	return func(ctx context.Context, address string, h rdmaio.Hello, ev rdmaio.Events) (rdmaio.Session, rdmaio.Welcome, error) {
		conn, w, err := tcp.Dial(ctx, address, h, ev, o)
		if err != nil {
			return nil, w, err
		}
		return conn, w, nil
	}
}

// Options of a writer. The zero value is ready to use.
type Options struct {
	Dial Dialer // default: TCP

	// WaitForSpace makes an append to a full log wait for a trim; without it the
	// append fails with ErrFull.
	WaitForSpace bool

	Window      int           // sends to one replica that may wait for completion; default 2
	RetryFirst  time.Duration // wait before the first reconnect to a replica; default 20 ms
	RetryMax    time.Duration // longest wait between reconnects; default 2 s
	DialTimeout time.Duration // for one attempt to reach a replica, or the control plane; default 3 s
	Log         *slog.Logger  // default: discards

	// QuorumTimeout is how long an append waits while too few replicas work,
	// before it fails with ErrNoQuorum; 0 means for ever. Its record keeps its place
	// and may be committed later.
	QuorumTimeout time.Duration

	// ReplaceAfter is how long a replica of an open log may be away, or lag by more
	// than ReplaceLag of the capacity, before the control plane is asked to replace
	// it; negative means never. Default 10 minutes.
	ReplaceAfter time.Duration
	ReplaceLag   float64 // 0 to 1; default 0.75

	// AcceptLoss, if set, is asked when every replica has been tried and the log can
	// only be opened by giving up what may have been acknowledged. On true the log
	// goes on without, and replicas that are away are replaced at once. It may take
	// its time: a log that can be opened after all is opened meanwhile, and ctx ends.
	AcceptLoss func(ctx context.Context, l core.Loss) bool
}

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = DialTCP(tcp.Options{})
	}
	setDefault(&o.Window, core.DefaultWindow)
	setDefault(&o.RetryFirst, 20*time.Millisecond)
	setDefault(&o.RetryMax, 2*time.Second)
	setDefault(&o.DialTimeout, 3*time.Second)
	setDefault(&o.ReplaceAfter, 10*time.Minute)
	setDefault(&o.ReplaceLag, 0.75)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (o Options) validate() error {
	if o.Window < 1 {
		return fmt.Errorf("replog: Options.Window is %d: must be at least 1", o.Window)
	}
	if o.DialTimeout < 0 {
		return fmt.Errorf("replog: Options.DialTimeout %v must not be negative", o.DialTimeout)
	}
	if o.QuorumTimeout < 0 {
		return fmt.Errorf("replog: Options.QuorumTimeout %v must not be negative", o.QuorumTimeout)
	}
	if o.ReplaceLag < 0 || o.ReplaceLag > 1 {
		return fmt.Errorf("replog: Options.ReplaceLag %v must be a share of the capacity, 0 to 1", o.ReplaceLag)
	}
	if o.RetryFirst < 0 || o.RetryMax < o.RetryFirst {
		return fmt.Errorf("replog: Options.RetryMax %v must not be below RetryFirst %v", o.RetryMax, o.RetryFirst)
	}
	return nil
}

// pause returns how long to wait between attempts.
func (o Options) pause() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: o.RetryFirst, MaxInterval: o.RetryMax, Multiplier: 2, RandomizationFactor: 0.3,
	}
}
