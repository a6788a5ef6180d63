package tcp

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"
)

// Options tune both ends. The zero value is ready for use.
type Options struct {
	// TLS wraps connections, of TLS 1.3 only; nil leaves them plain. A listener
	// lets clients prove any key and verifies no authority: what the key may do is
	// for the host to say, by the grant. One who dials verifies the listener's
	// certificate by RootCAs and the host's name.
	TLS *tls.Config

	// DialTLS, if set, makes the configuration for each connection that is dialled
	// instead, given the ID of the daemon that is meant ("" if that is not known) and
	// the host.
	DialTLS func(daemon, host string) (*tls.Config, error)

	// Key is what one who dials with TLS proves; by default a new one for each
	// connection, which no grant names.
	Key *Key

	// Logger gets one line for each connection that a listener ends because of
	// what its peer did, and for trouble with accepting; slog.Default by default.
	Logger *slog.Logger

	// DeadAfter is how long a far end that owes an answer may be silent before it
	// is given up, 5 s by default. A daemon that is alive and busy is not silent:
	// it says so every BusyEvery.
	DeadAfter time.Duration

	// MaxPending is how many requests may wait for answers on one session, 64 by
	// default; more of them queue for their turn.
	MaxPending int

	// HelloTimeout is how long a listener waits for a whole Hello, 5 s by default.
	HelloTimeout time.Duration

	// BusyEvery is how often a listener that is at work tells so, 1 s by default.
	// It must be well below the DeadAfter of those that dial.
	BusyEvery time.Duration

	// MaxSessions and MaxHandshakes are how many connections a listener holds that
	// were admitted and that were not yet, 1024 and 128 by default; more are
	// refused with ErrBusy.
	MaxSessions   int
	MaxHandshakes int

	speaks span // protocol versions; tests set others than this program's
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	orDuration(&o.DeadAfter, 5*time.Second)
	orDuration(&o.HelloTimeout, 5*time.Second)
	orDuration(&o.BusyEvery, time.Second)
	orInt(&o.MaxPending, 64)
	orInt(&o.MaxSessions, 1024)
	orInt(&o.MaxHandshakes, 128)
	o.speaks = o.speaks.withDefault()
	return o
}

func orDuration(v *time.Duration, otherwise time.Duration) {
	if *v == 0 {
		*v = otherwise
	}
}

func orInt(v *int, otherwise int) {
	if *v == 0 {
		*v = otherwise
	}
}

func (o *Options) validate() error {
	for name, d := range map[string]time.Duration{
		"DeadAfter": o.DeadAfter, "HelloTimeout": o.HelloTimeout, "BusyEvery": o.BusyEvery,
	} {
		if d < time.Millisecond {
			return fmt.Errorf("tcp: %s is %v, it must be at least 1ms", name, d)
		}
	}
	for name, n := range map[string]int{
		"MaxPending": o.MaxPending, "MaxSessions": o.MaxSessions, "MaxHandshakes": o.MaxHandshakes,
	} {
		if n < 1 {
			return fmt.Errorf("tcp: %s is %d, it must be at least 1", name, n)
		}
	}
	return nil
}
