package agent

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
)

// step is an operator with its IDs read.
type step struct {
	op           openapi.Operator
	replica, log format.ID
}

// operators hands the steps that a heartbeat was answered with to those who carry
// them out, and never waits. Those that are under way, or done and not yet
// reported, are not begun again.
func (a *Agent) operators(ops []openapi.Operator) {
	var recoveries []step
	for _, op := range ops {
		if a.results.done(op.OperatorID) {
			continue
		}
		if op.Kind == openapi.OperatorScrub {
			a.scrubs.ask(op)
			continue
		}
		s, err := readStep(op)
		switch {
		case err != nil:
			a.result(&op, err)
		case op.Kind == openapi.OperatorRemoveReplica:
			a.chores.remove(removal{
				replica: s.replica, log: s.log, operator: op.OperatorID, setVersion: uint64(max(op.SetVersion, 0)),
			})
		case op.Kind == openapi.OperatorRecoverLog:
			recoveries = append(recoveries, s)
		default:
			err = fmt.Errorf("this agent, version %q, does not know operator %q", a.opts.Version, op.Kind)
			op.Kind = openapi.OperatorRemoveReplica // a kind that every server's contract has
			a.result(&op, err)
		}
	}
	a.lane.asked(recoveries)
}

func readStep(op openapi.Operator) (step, error) {
	replica, errR := uuid.Parse(op.ReplicaID)
	log, errL := uuid.Parse(op.LogID)
	return step{op: op, replica: format.ID(replica), log: format.ID(log)}, errors.Join(errR, errL)
}
