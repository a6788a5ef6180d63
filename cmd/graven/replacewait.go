package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gravenio/graven/openapi"
)

// replaceWait follows one replacement to its end.
type replaceWait struct {
	waitLine
	api     *openapi.ClientWithResponses
	log     string
	from    string
	learner openapi.Replica
}

// run shows the log once the learner has its place. Trouble with the API ends
// nothing: whoever fills the learner needs it only at the end.
func (w *replaceWait) run(ctx context.Context) error {
	for {
		rsp, err := checked(w.api.GetLogWithResponse(ctx, w.log))
		switch {
		case ctx.Err() != nil:
			return w.interrupted(ctx)
		case openapi.IsProblem(err, openapi.ProblemNotFound):
			return w.ended(fmt.Errorf("log %s was deleted while its replica on %s was being replaced", w.log, w.from))
		case err != nil:
			w.progress(fmt.Sprintf("can't see how far it is: %v; trying again", err))
		default:
			if done, err := w.look(rsp.Body); done || err != nil {
				return err
			}
		}
		select {
		case <-time.After(replacePoll):
		case <-ctx.Done():
			return w.interrupted(ctx)
		}
	}
}

// look says whether the learner has its place, and shows the log then, or why it
// will never have it.
func (w *replaceWait) look(body []byte) (done bool, err error) {
	l, err := decoded[openapi.Log](body)
	if err != nil {
		return false, w.ended(err)
	}
	i := slices.IndexFunc(l.Replicas, func(r openapi.Replica) bool { return r.ReplicaID == w.learner.ReplicaID })
	if i >= 0 && l.Replicas[i].State == openapi.ReplicaLearner {
		w.progress(filledText(&l, &l.Replicas[i]) + "; " + carrier(&l, &l.Replicas[i]))
		return false, nil
	}
	// Without both, the new one has had its place and left it again.
	stays := slices.ContainsFunc(l.Replicas, func(r openapi.Replica) bool { return r.ReplicaID == w.learner.Replaces })
	if i < 0 && stays {
		return false, w.ended(withHint(
			fmt.Errorf("the replacement was given up: log %s keeps its replica on %s", w.log, w.from),
			"start it again with `graven log replace %s --from %s`", w.log, w.from))
	}
	return true, errors.Join(w.ended(nil), w.app.show(body, func(t *table) { logDetails(t, &l) }))
}

// filledText compares what the learner holds with the fullest of the others, as
// their daemons last reported.
func filledText(l *openapi.Log, learner *openapi.Replica) string {
	if learner.Reported == nil {
		return learner.DaemonID + " has not begun"
	}
	var most int64
	for _, r := range l.Replicas {
		if r.Reported != nil && r.State != openapi.ReplicaLearner {
			most = max(most, r.Reported.DurableLSN-r.Reported.TrimLSN)
		}
	}
	has := max(0, learner.Reported.DurableLSN-learner.Reported.TrimLSN)
	return fmt.Sprintf("%s has %s of %s", learner.DaemonID, humanSize(has), humanSize(max(has, most)))
}

func (w *replaceWait) interrupted(ctx context.Context) error {
	why := "interrupted"
	if cause := context.Cause(ctx); !errors.Is(cause, errSignal) {
		why = cause.Error()
	}
	return w.ended(withHint(
		fmt.Errorf("%s while waiting; the replacement of the replica on %s goes on", why, w.from),
		"follow it with `graven log show %s`, give it up with `graven log replace %s --abandon`", w.log, w.log))
}
