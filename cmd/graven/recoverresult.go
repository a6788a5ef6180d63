package main

import (
	"fmt"
	"strings"

	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/core"
)

// recoverResult is the result of `log recover`.
type recoverResult struct {
	Log       string             `json:"name"`
	LogID     string             `json:"log_id"`
	Epoch     uint64             `json:"epoch"`
	TrimLSN   uint64             `json:"trim_lsn"`
	CommitLSN uint64             `json:"commit_lsn"`
	GivenUp   *givenUp           `json:"given_up,omitempty"`
	Replicas  []recoveredReplica `json:"replicas"`
}

// recoveredReplica is a replica when the log was closed again.
type recoveredReplica struct {
	DaemonID   string `json:"daemon_id"`
	ReplicaID  string `json:"replica_id"`
	State      string `json:"state"`       // in the control plane: present, allocated or learner
	Stage      string `json:"stage"`       // how far its session has come: away to member
	TakesPart  bool   `json:"takes_part"`  // its acknowledgements count
	DurableLSN uint64 `json:"durable_lsn"` // what it has persisted in this epoch
	Lag        uint64 `json:"lag_bytes"`
	Error      string `json:"error,omitempty"` // why it is away
}

// stageAway is the stage of a replica without a session.
const stageAway = "away"

func (r *recovery) result(w *replog.Writer) *recoverResult {
	g := w.Grant()
	res := &recoverResult{
		Log: g.Name, LogID: g.Log.String(), Epoch: g.Term.Epoch, TrimLSN: w.TrimLSN(), CommitLSN: w.Commit(),
	}
	if l := w.Loss(); l != nil {
		res.GivenUp = r.givenUp(l)
	}
	for _, s := range w.Status() {
		res.Replicas = append(res.Replicas, r.replica(&s))
	}
	return res
}

func (r *recovery) replica(s *core.ReplicaStatus) recoveredReplica {
	id := s.ID.String()
	out := recoveredReplica{
		DaemonID: r.names.of(id), ReplicaID: id, State: s.State.String(), Stage: s.Stage,
		TakesPart: s.Counts, DurableLSN: s.Durable, Lag: s.Lag,
	}
	if s.Stage == stageAway && s.Reason != nil {
		out.Error = s.Reason.Error()
	}
	return out
}

// away returns the daemons of replicas that are not there.
func (res *recoverResult) away() []string {
	var ids []string
	for _, r := range res.Replicas {
		if r.Stage == stageAway {
			ids = append(ids, r.DaemonID)
		}
	}
	return ids
}

func (res *recoverResult) rows(t *table) {
	t.row("log", res.Log+" ("+res.LogID+")")
	t.row("epoch", res.Epoch)
	t.row("trim LSN", res.TrimLSN)
	t.row("commit LSN", res.CommitLSN)
	if g := res.GivenUp; g != nil {
		var who []string
		for _, u := range g.Unknown {
			who = append(who, u.DaemonID)
		}
		t.row("given up", fmt.Sprintf("what %s held beyond LSN %d of epoch %d", listed(who), g.LSN, g.Epoch))
	}
	_ = t.w.Flush()
	t.row()
	t.row("REPLICA ON", "STATE", "SESSION", "DURABLE", "BEHIND")
	part := 0
	for _, r := range res.Replicas {
		session, durable, behind := r.Stage, fmt.Sprint(r.DurableLSN), humanSize(r.Lag)
		switch {
		case r.TakesPart:
			part++
			session = "takes part"
		case r.Stage == stageAway:
			durable, behind = "", ""
		}
		t.row(r.DaemonID, r.State, session, durable, behind)
	}
	_ = t.w.Flush()
	for _, r := range res.Replicas {
		if r.Error != "" {
			t.row(r.DaemonID + ": " + r.Error)
		}
	}
	t.row(fmt.Sprintf("recovered; %d of %d replicas take part", part, len(res.Replicas)))
}

// listed writes names as a sentence has them.
func listed(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
