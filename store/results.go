package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/planner"
)

// takeTasks records what became of the operators that a daemon carries out. What
// is not its own, or does not run, changes nothing, so a repeated result is
// harmless. The view tells which those are: what it does not know yet is handed
// out, and reported, again.
func (s *Store) takeTasks(ctx context.Context, daemonID string, results []StepResult) error {
	for _, r := range results {
		if !s.view.worksOn(daemonID, r.OperatorID) {
			continue
		}
		err := retry(ctx, fmt.Errorf("result of operator %s: %w", r.OperatorID, ErrConflict), func() (bool, error) {
			return s.takeTask(ctx, daemonID, r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *View) worksOn(daemonID, operatorID string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	o := v.t.operators[operatorID]
	return o != nil && o.rec.worker(daemonID)
}

// worker says whether the operator runs and the daemon carries it out.
func (o *operatorRecord) worker(daemonID string) bool {
	if o.replaces() {
		return o.State == planner.Running && o.To == daemonID
	}
	return o.assigned() && o.DaemonID == daemonID
}

func (s *Store) takeTask(ctx context.Context, daemonID string, r StepResult) (bool, error) {
	es, _, err := s.read(ctx, prefixOperators+r.OperatorID)
	if err != nil || !es[0].exists() {
		return err == nil, err
	}
	rec, err := decode[operatorRecord](es[0].key, es[0].value)
	if err != nil || !rec.worker(daemonID) {
		return err == nil, err
	}
	op, changed, err := s.judgeTask(ctx, es[0].key, &rec, r)
	if err != nil || !changed {
		return err == nil, err
	}
	_, ok, err := s.commit(ctx, []clientv3.Cmp{es[0].unchanged()}, []clientv3.Op{op})
	return ok, err
}

// judgeTask is what a result makes of the operator. The log's record tells of a
// replacement; here only what stood in its way is new.
func (s *Store) judgeTask(ctx context.Context, key string, rec *operatorRecord, r StepResult) (clientv3.Op, bool, error) {
	switch {
	case !rec.replaces() && r.Done:
		op, err := s.putEnded(ctx, key, rec, planner.Done, "")
		return op, true, err
	case !rec.replaces():
		op, err := s.putEnded(ctx, key, rec, planner.Failed, r.Error)
		return op, true, err
	case r.Done || rec.Error == clipText(r.Error):
		return clientv3.Op{}, false, nil
	}
	rec.Error = clipText(r.Error)
	return put(key, *rec), true, nil
}
