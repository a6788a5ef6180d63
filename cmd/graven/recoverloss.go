package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/gravenio/graven/replog/control"
	"github.com/gravenio/graven/replog/core"
)

// lossQuestion asks a person whether data is to be given up.
type lossQuestion struct {
	*recovery
	refuse context.CancelCauseFunc // ends the open
	before func()                  // to be called before anything is written to stderr
	person *question               // nil until the first question
}

// refusedLoss says that nobody has agreed to what would be given up.
type refusedLoss struct{ text string }

func (e *refusedLoss) Error() string { return e.text }

// ask is replog's Options.AcceptLoss. When somebody says no, the open ends; when
// ctx ends, the log is being opened without an answer.
func (q *lossQuestion) ask(ctx context.Context, l core.Loss) bool {
	q.before()
	g := q.givenUp(&l)
	note(q.err, "%s", g.text(q.log))
	if l.Trim > l.Last.LSN {
		q.refuse(&refusedLoss{fmt.Sprintf("log %s begins at LSN %d, and the replica on %s ends before that: one that goes beyond is needed; nothing was given up",
			q.log, l.Trim, g.Chosen)})
		return false
	}
	if !q.yes {
		switch answer, ok := q.answer(ctx); {
		case !ok:
			return false
		case answer != q.log:
			q.refuse(&refusedLoss{fmt.Sprintf("the answer is not %s: nothing was given up", q.log)})
			return false
		}
	}
	note(q.err, "given up; waiting until an ack quorum of replicas works")
	return true
}

func (q *lossQuestion) answer(ctx context.Context) (text string, ok bool) {
	if q.person == nil {
		q.person = &question{in: q.in, out: q.err}
	}
	return q.person.ask(ctx, "Type the log's name to give this up for good: ")
}

// givenUp is what somebody gives up who lets a log go on.
type givenUp struct {
	Chosen    string        `json:"daemon_id"` // whose replica the log goes on from
	ReplicaID string        `json:"replica_id"`
	Epoch     uint64        `json:"epoch"` // where that replica ends
	LSN       uint64        `json:"lsn"`
	TrimLSN   uint64        `json:"trim_lsn"`
	Unknown   []lostReplica `json:"unknown"`
}

// lostReplica is one that may have held more.
type lostReplica struct {
	DaemonID  string `json:"daemon_id"`
	ReplicaID string `json:"replica_id"`
	Detail    string `json:"detail"`
}

func (r *recovery) givenUp(l *core.Loss) *givenUp {
	id := l.Chosen.String()
	g := &givenUp{Chosen: r.names.of(id), ReplicaID: id, Epoch: l.Last.Epoch, LSN: l.Last.LSN, TrimLSN: l.Trim}
	for _, u := range l.Unknown {
		id := u.ID.String()
		g.Unknown = append(g.Unknown, lostReplica{DaemonID: r.names.of(id), ReplicaID: id, Detail: control.DescribeUnknown(u)})
	}
	return g
}

func (g *givenUp) text(log string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Too few replicas of log %s are left to know what was acknowledged.\n", log)
	fmt.Fprintf(&b, "It can go on from the one on %s, which ends at LSN %d of epoch %d; the log begins at LSN %d.\n", g.Chosen, g.LSN, g.Epoch, g.TrimLSN)
	fmt.Fprintf(&b, "What others held beyond that is given up, even when they return:\n")
	for _, u := range g.Unknown {
		fmt.Fprintf(&b, "  %s (replica %s): %s\n", u.DaemonID, u.ReplicaID, u.Detail)
	}
	b.WriteString("A writer that may still run elsewhere is cut off from what it acknowledges.")
	return b.String()
}
