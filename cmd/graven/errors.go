package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
)

// usageError says that the command line is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// hintError adds what to do next.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint returns err with a hint; nil stays nil.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err: err, hint: fmt.Sprintf(format, args...)}
}

// exitStatus is exitUsage for a wrong command line, whoever noticed it.
func exitStatus(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), openapi.IsProblem(err, openapi.ProblemInvalidRequest):
		return exitUsage
	default:
		return exitFailed
	}
}

// report tells a person what went wrong and what to do next.
func report(w io.Writer, command string, err error) {
	var usage *usageError
	var hint *hintError
	var problem *openapi.ProblemError
	var silent *apiclient.NoAnswerError
	fmt.Fprintf(w, "error: %s\n", err)
	if errors.As(err, &problem) {
		reportDetails(w, &problem.Problem)
	}
	switch {
	case errors.As(err, &hint):
		fmt.Fprintf(w, "hint: %s\n", hint.hint)
	case errors.As(err, &usage), openapi.IsProblem(err, openapi.ProblemInvalidRequest):
		fmt.Fprintf(w, "hint: see `%s --help`\n", command)
	case problem != nil:
		if h := problemHint(&problem.Problem); h != "" {
			fmt.Fprintf(w, "hint: %s\n", h)
		}
	case errors.As(err, &silent):
		fmt.Fprintf(w, "hint: start a cluster with `graven dev`, or name the API's address with --api or GRAVEN_API\n")
	}
}

// reportDetails prints what the problem carries beyond its text.
func reportDetails(w io.Writer, p *openapi.Problem) {
	for _, f := range p.Fields {
		if !strings.Contains(p.Detail, f.Rule) {
			fmt.Fprintf(w, "  %s: %s\n", f.Name, f.Rule)
		}
	}
	if c := p.Placement; c != nil {
		fmt.Fprintf(w, "  asked for %d, fit %d of %d daemons in %d failure domains; rule not met: %s\n",
			c.Replicas, c.Eligible, c.Daemons, c.Domains, c.Rule)
		for _, rule := range slices.Sorted(maps.Keys(c.Removed)) {
			fmt.Fprintf(w, "  %s ruled out %d\n", rule, c.Removed[rule])
		}
	}
	if o := p.Writer; o != nil {
		fmt.Fprintf(w, "  writer: %s, epoch %d, since %s\n", writerText(o), o.Epoch, stamp(o.Since))
	}
}

func writerText(w *openapi.Writer) string {
	return fmt.Sprintf("%s (process %d on %s)", cmp.Or(w.Name, "unnamed"), w.PID, w.Host)
}

// problemHint says what to do about a kind of problem.
func problemHint(p *openapi.Problem) string {
	switch p.Type {
	case openapi.ProblemNotFound:
		return "see what there is with `graven log ls` and `graven daemon ls`"
	case openapi.ProblemLogInUse:
		return "wait until that writer has ended, or fence it with --takeover where the command has it"
	case openapi.ProblemNameTaken:
		return "choose another name, or remove that log with `graven log rm NAME`"
	case openapi.ProblemNoPlacement:
		return "see the daemons with `graven daemon ls`; ask for fewer replicas, less capacity or other rules"
	case openapi.ProblemReplacementInProgress:
		return "see how far it is with `graven log show NAME`, or give it up with `graven log replace NAME --abandon`"
	case openapi.ProblemDaemonInUse:
		return "stop its agent first; if its host will never return, give its replicas up with --lost"
	case openapi.ProblemConflict:
		return "it changed meanwhile; look at it again and repeat the command"
	case openapi.ProblemEtcdNoSpace:
		return "make room in etcd: compact, defragment, and disarm the alarm (docs/operations.md)"
	case openapi.ProblemUnavailable:
		return "the API has no connection to etcd; try again, and see `graven status`"
	case openapi.ProblemUnauthenticated:
		return "show a certificate with --tls-cert and --tls-key, or a token with --token-file; of `graven dev --tls`, set GRAVEN_CONFIG to cli.yaml in its folder"
	case openapi.ProblemTokenInvalid, openapi.ProblemTokenExpired:
		return "get a token of this cluster, from `graven token new` or whoever signs yours, and name its file with --token-file"
	case openapi.ProblemForbidden:
		return "ask an admin, or use a certificate or token with that role"
	case openapi.ProblemForeignLog:
		return "see whose it is with `graven log show NAME`; ask its owner or an admin"
	case openapi.ProblemForeignDaemon:
		return "use the certificate that the daemon first registered with"
	case openapi.ProblemRateLimited:
		return "wait, and ask less often"
	case openapi.ProblemForbiddenOrigin:
		return "reach the server under a name of --hosts; a development server as 127.0.0.1 or localhost"
	default:
		return ""
	}
}
