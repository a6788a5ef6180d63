package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/planner"
)

// carryOut makes a plan's changes, each in a transaction of its own that compares
// the election and what it was decided on. What fails is planned again.
func (l *leader) carryOut(ctx context.Context, v *planner.View, plan *planner.Plan) {
	try := func(what, id string, do func(context.Context) error) {
		if ctx.Err() != nil {
			return
		}
		ctx, cancel := l.s.call(ctx)
		defer cancel()
		err := do(ctx)
		if err != nil && ctx.Err() == nil {
			l.s.log.Debug("an operator was not "+what+" and will be planned again", "operator", id, "error", err)
		}
	}
	for _, e := range plan.Ends {
		try("ended", e.ID, func(ctx context.Context) error { return l.end(ctx, e) })
	}
	for _, s := range plan.Start {
		try("begun", s.ID, func(ctx context.Context) error { return l.start(ctx, s) })
	}
	for _, s := range plan.Queue {
		try("queued", s.ID, func(ctx context.Context) error { return l.queue(ctx, v, s) })
	}
	for _, id := range append(plan.Drop, tooMany(l.s.view)...) {
		try("dropped", id, func(ctx context.Context) error { return l.drop(ctx, id) })
	}
}

// asPlanned compares that the operator's record is the one that was planned on, or
// still absent: a person may have cancelled it meanwhile.
func (l *leader) asPlanned(id string) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(prefixOperators+id), "=", l.mods[id])
}

// end gives a running operator up, and its learner.
func (l *leader) end(ctx context.Context, e planner.End) error {
	return retry(ctx, l.conflict(e.ID), func() (bool, error) {
		op, rec, err := l.read(ctx, e.ID)
		if err != nil || rec == nil || rec.State != planner.Running {
			return err == nil, err
		}
		c, err := l.s.ending(ctx, op, rec, e.State, e.Why)
		if err != nil {
			return false, err
		}
		return l.commit(ctx, c.cmps, c.ops)
	})
}

// start begins an operator.
func (l *leader) start(ctx context.Context, step planner.Step) error {
	if step.Kind == planner.Replace || step.Kind == planner.Drain {
		_, err := l.s.start(ctx, &starting{
			req: StartReplacementRequest{Log: step.LogID, Replica: step.ReplicaID, To: step.To}, id: uuid.NewString(),
			reason: step.Reason, planned: append(l.term.holds(), l.asPlanned(step.ID)),
		})
		if refused(err) { // the view has moved on
			return nil
		}
		return err
	}
	return l.assign(ctx, step)
}

// refused says that a replacement can't begin as it was planned.
func refused(err error) bool {
	var r *placement.RefusedError
	return errors.As(err, &r) || errors.Is(err, ErrReplacing) || errors.Is(err, ErrNotFound)
}

// assign makes an operator its daemon's. The daemon, and the log if there is one,
// must be there still.
func (l *leader) assign(ctx context.Context, step planner.Step) error {
	keys := []string{prefixOperators + step.ID, prefixDaemons + step.DaemonID}
	if step.LogID != "" {
		keys = append(keys, prefixLogs+step.LogID)
	}
	es, _, err := l.s.read(ctx, keys...)
	if err != nil {
		return err
	}
	rec := operatorOfStep(step)
	rec.State = planner.Running
	var cmps []clientv3.Cmp
	for _, e := range es[1:] {
		if !e.exists() {
			return nil
		}
		cmps = append(cmps, e.sameLife())
	}
	if step.LogID != "" {
		log, err := decode[logRecord](es[2].key, es[2].value)
		if err != nil {
			return err
		}
		rec.LogName = log.Name
	}
	if err := rec.begin(es[0]); err != nil {
		return err
	}
	_, err = l.commit(ctx, append(cmps, l.asPlanned(step.ID)), []clientv3.Op{put(es[0].key, rec)})
	return err
}

func operatorOfStep(s planner.Step) operatorRecord {
	return operatorRecord{version: current(), Operator: Operator{
		OperatorID: s.ID, Kind: s.Kind, Reason: s.Reason, State: planner.Planned, LogID: s.LogID, ReplicaID: s.ReplicaID,
		DaemonID: s.DaemonID, WaitsFor: clipText(s.WaitsFor), CreatedAt: time.Now().UTC(),
	}}
}

// queue shows an operator that waits. One that waits for the same still is not
// written again.
func (l *leader) queue(ctx context.Context, v *planner.View, s planner.Step) error {
	shown := func(o planner.Operator) bool {
		return o.ID == s.ID && o.State == planner.Planned && o.WaitsFor == clipText(s.WaitsFor) && o.DaemonID == s.DaemonID
	}
	if slices.ContainsFunc(v.Operators, shown) {
		return nil
	}
	op, before, err := l.read(ctx, s.ID)
	if err != nil {
		return err
	}
	rec := operatorOfStep(s)
	if log, ok := l.s.view.Log(s.LogID); ok {
		rec.LogName = log.Name
	}
	if before != nil {
		rec.Attempts, rec.Error = before.Attempts, before.Error
		if before.State == planner.Planned {
			rec.CreatedAt = before.CreatedAt
		}
	}
	_, err = l.commit(ctx, []clientv3.Cmp{l.asPlanned(s.ID)}, []clientv3.Op{put(op.key, rec)})
	return err
}

// drop forgets an operator that is not wanted any more, or has ended long ago.
func (l *leader) drop(ctx context.Context, id string) error {
	_, err := l.commit(ctx, []clientv3.Cmp{l.asPlanned(id)}, []clientv3.Op{clientv3.OpDelete(prefixOperators + id)})
	return err
}

// tooMany are the operators that ended first, beyond the bound of those that are
// kept. Which that are etcd's revisions say, since the clocks of the servers that
// ended them differ.
func tooMany(v *View) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var ended []string
	for id, o := range v.t.operators {
		if o.rec.State.Ended() {
			ended = append(ended, id)
		}
	}
	slices.SortFunc(ended, func(a, b string) int {
		return cmp.Or(cmp.Compare(v.t.operators[a].mod, v.t.operators[b].mod), cmp.Compare(a, b))
	})
	return ended[:max(0, len(ended)-maxEnded)]
}

// read returns an operator's key and record, nil if there is none.
func (l *leader) read(ctx context.Context, id string) (entry, *operatorRecord, error) {
	es, _, err := l.s.read(ctx, prefixOperators+id)
	if err != nil || !es[0].exists() {
		return entry{key: prefixOperators + id}, nil, err
	}
	rec, err := decode[operatorRecord](es[0].key, es[0].value)
	return es[0], &rec, err
}

// commit makes a change if the term still holds.
func (l *leader) commit(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (bool, error) {
	_, ok, err := l.s.commit(ctx, append(cmps, l.term.holds()...), ops)
	return ok, err
}

func (l *leader) conflict(id string) error {
	return fmt.Errorf("operator %s: %w", id, ErrConflict)
}
