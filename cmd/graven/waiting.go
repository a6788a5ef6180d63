package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/gravenio/graven/openapi"
)

// silence is how long a command waits for daemons before it says so.
const silence = 3 * time.Second

// errTimeout is the cause of a context that --timeout has ended.
var errTimeout = errors.New("--timeout has passed")

// timeoutFlag adds --timeout to a command that may have to wait for daemons.
func timeoutFlag(f *pflag.FlagSet, d *time.Duration) {
	f.DurationVar(d, "timeout", 0, "give up after this time, such as 30s (default never)")
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc, error) {
	switch {
	case d < 0:
		return nil, nil, usagef("--timeout is %v: must not be negative", d)
	case d == 0:
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d, errTimeout)
	return ctx, cancel, nil
}

// explainWait says after a while what a log waits for: daemons, if too few of
// them are up, or the API. The caller ends it before it writes to stderr itself.
func (a *app) explainWait(ctx context.Context, api *openapi.ClientWithResponses, log string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for { // a daemon that has just died is not known to be down yet
			select {
			case <-time.After(silence):
			case <-ctx.Done():
				return
			}
			if text := waitText(ctx, api, log, silence); text != "" {
				note(a.err, "note: %s", text)
				return
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// errSilent is the cause of a question's end that had no answer in time.
var errSilent = errors.New("no answer")

// waitText says what keeps a log from being opened, or "" if that can't be seen
// from here or ctx has ended. The API gets patience to answer.
func waitText(ctx context.Context, api *openapi.ClientWithResponses, log string, patience time.Duration) string {
	bounded, cancel := context.WithTimeoutCause(ctx, patience, errSilent)
	defer cancel()
	rsp, err := checked(api.GetLogWithResponse(bounded, log))
	var problem *openapi.ProblemError
	switch {
	case ctx.Err() != nil:
		return ""
	case errors.As(err, &problem) && !openapi.IsProblem(err, openapi.ProblemUnavailable) && !openapi.IsProblem(err, openapi.ProblemEtcdNoSpace):
		return "" // the open gets the same answer, and ends
	case err != nil:
		return fmt.Sprintf("log %s can't be opened without the API: %v; waiting for it (--timeout bounds it)", log, err)
	case rsp.JSON200 == nil:
		return ""
	}
	if text := missingText(rsp.JSON200); text != "" {
		return text + "; waiting for them (--timeout bounds it, `graven daemon ls` shows them; if they are lost for good, see `graven log recover --help`)"
	}
	return ""
}

// missingText names the daemons that are not there if too few are; else it is "".
func missingText(l *openapi.Log) string {
	var away []string
	set := members(l)
	for _, r := range set {
		if r.DaemonState == openapi.DaemonDown || r.Missing {
			away = append(away, r.DaemonID)
		}
	}
	if here := len(set) - len(away); here >= int(l.AckQuorum) {
		return ""
	}
	return fmt.Sprintf("log %s needs %d of its %d replicas, and those on %s are not there",
		l.Name, l.AckQuorum, len(set), strings.Join(away, ", "))
}
