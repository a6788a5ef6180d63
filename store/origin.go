package store

import (
	"context"
	"net"
)

// Origin is where a request came from, for the journal.
type Origin struct {
	Remote    string // IP address and port of the peer
	RequestID string
}

type originKey struct{}

// WithOrigin returns a context whose changes are recorded as coming from there.
// Without one they are the program's own.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

func originOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// host is the address without the port, which differs from call to call.
func (o Origin) host() string {
	if host, _, err := net.SplitHostPort(o.Remote); err == nil {
		return host
	}
	return o.Remote
}
