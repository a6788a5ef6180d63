package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/replog"
)

// names says on which daemon a replica is: the log's code knows replicas by
// their IDs, people know daemons. It is safe for concurrent use.
type names struct {
	mu     sync.Mutex
	daemon map[string]string // by replica ID; a log has few
}

func (n *names) add(replica, daemon string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.daemon == nil {
		n.daemon = map[string]string{}
	}
	if daemon != "" {
		n.daemon[replica] = daemon
	}
}

func (n *names) addLog(l *openapi.Log) {
	for _, r := range l.Replicas {
		n.add(r.ReplicaID, r.DaemonID)
	}
}

// of returns the daemon of a replica, or the replica's ID if that is not known.
func (n *names) of(replica string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d, ok := n.daemon[replica]; ok {
		return d
	}
	return replica
}

// explain adds to each replica ID in a text where that replica is.
func (n *names) explain(text string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var pairs []string
	for _, id := range slices.Sorted(maps.Keys(n.daemon)) {
		pairs = append(pairs, id, id+" on "+n.daemon[id])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// namesBound is how long the API may take to say where replicas are.
const namesBound = 2 * time.Second

// lookUp adds what the API says. Nothing depends on it, so its silence, or the
// end of ctx, is no error.
func (n *names) lookUp(ctx context.Context, api *openapi.ClientWithResponses, log string) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), namesBound, errSilent)
	defer cancel()
	if rsp, err := checked(api.GetLogWithResponse(ctx, log)); err == nil && rsp.JSON200 != nil {
		n.addLog(rsp.JSON200)
	}
}

// onDaemons adds to an error the daemons of the replicas that it names, and says
// whether there are any. g names the log, and the replicas that are known if the
// API is silent.
func onDaemons(ctx context.Context, api *openapi.ClientWithResponses, g replog.Grant, err error) (explained error, named bool) {
	if err == nil || !strings.Contains(err.Error(), "replica ") {
		return err, false
	}
	var n names
	for _, r := range g.Replicas {
		n.add(r.ID.String(), r.Daemon)
	}
	n.lookUp(ctx, api, g.Name)
	text := n.explain(err.Error())
	if text == err.Error() {
		return err, false
	}
	return &explainedError{err: err, text: text}, true
}

// explainedError is an error in other words.
type explainedError struct {
	err  error
	text string
}

func (e *explainedError) Error() string { return e.text }
func (e *explainedError) Unwrap() error { return e.err }
