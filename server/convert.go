package server

import (
	"math"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// The functions of this file translate between the contract's types and the
// store's, and decide nothing.

func health(h store.Health) openapi.Health {
	if h.Status == "" {
		return openapi.Health{State: openapi.HealthOK, Reason: h.Detail}
	}
	return openapi.Health{State: openapi.HealthState(h.Status), Reason: h.Detail}
}

func storeHealth(h openapi.Health) store.Health {
	return store.Health{Status: string(h.State), Detail: h.Reason}
}

func storeSummaries(rs []openapi.ReplicaSummary) []store.ReplicaSummary {
	if rs == nil {
		return nil
	}
	out := make([]store.ReplicaSummary, len(rs))
	for i, r := range rs {
		out[i] = store.ReplicaSummary{
			ReplicaID: r.ReplicaID, LogID: r.LogID, Bytes: r.Bytes, Epoch: uint64(r.Epoch),
			TrimLSN: uint64(r.TrimLSN), TailLSN: uint64(r.TailLSN), DurableLSN: uint64(r.DurableLSN),
			CommitLSN: uint64(r.CommitLSN), Suspect: r.Suspect, Damage: r.Damage, DamageLSN: uint64(r.DamageLSN),
		}
	}
	return out
}

func storeSeals(ss []openapi.ReplicaSeal) []store.SealReport {
	var out []store.SealReport
	for _, s := range ss {
		out = append(out, store.SealReport{ReplicaID: s.ReplicaID, SetVersion: uint64(s.SetVersion), Set: convert[string](s.Set)})
	}
	return out
}

func storeMark(m openapi.EtcdMark) store.EtcdMark {
	return store.EtcdMark{Life: uint64(m.Life), Revision: m.Revision, Proof: m.Proof}
}

func etcdMark(m store.EtcdMark) openapi.EtcdMark {
	return openapi.EtcdMark{Life: int64(m.Life), Revision: m.Revision, Proof: m.Proof}
}

func summary(r *store.ReplicaSummary) *openapi.ReplicaSummary {
	if r == nil {
		return nil
	}
	return &openapi.ReplicaSummary{
		ReplicaID: r.ReplicaID, LogID: r.LogID, Bytes: r.Bytes, Epoch: int64(r.Epoch),
		TrimLSN: int64(r.TrimLSN), TailLSN: int64(r.TailLSN), DurableLSN: int64(r.DurableLSN),
		CommitLSN: int64(r.CommitLSN), Suspect: r.Suspect, Damage: r.Damage, DamageLSN: int64(r.DamageLSN),
	}
}

func daemon(d *store.Daemon) openapi.Daemon {
	return openapi.Daemon{
		DaemonID: d.DaemonID, State: openapi.DaemonState(d.State), PoolID: d.PoolID,
		Incarnation: int64(d.Incarnation), Media: openapi.Media(d.Media),
		TCPAddr: d.TCPAddr, TCPPort: int32(d.TCPPort), RNICAddr: d.RNICAddr, RNICPort: int32(d.RNICPort),
		Transports: convert[openapi.Transport](d.Transports), FlushModes: convert[openapi.FlushMode](d.FlushModes),
		CapacityBytes: d.CapacityBytes, FreeBytes: d.FreeBytes, ReservedBytes: d.ReservedBytes,
		QuarantinedBytes: d.QuarantinedBytes, Labels: labels(d.Labels), Version: d.Version,
		Health: health(d.Health), LeaseTTLSeconds: d.LeaseTTLSeconds, ReplicaCount: len(d.Replicas),
		Quarantined: convert[string](d.Quarantined), Missing: convert[string](d.Missing),
		Identity: d.Identity, RegisteredAt: d.RegisteredAt.UTC(), LastSeen: d.LastSeen.UTC(), DownSince: instant(d.DownSince),
	}
}

func log(l *store.Log) openapi.Log {
	return openapi.Log{
		LogID: l.LogID, Name: l.Name, State: openapi.LogState(l.State),
		Replicas: replicas(l.Replicas), AckQuorum: int32(l.AckQuorum), CapacityBytes: l.CapacityBytes,
		ReplicaBytes: l.ReplicaBytes, SetVersion: int64(l.SetVersion), Epoch: int64(l.Epoch),
		Writer: writer(l.Writer), Owner: l.Owner, Groups: l.Groups, CreatedAt: l.CreatedAt.UTC(),
	}
}

func replicas(rs []store.Replica) []openapi.Replica {
	out := make([]openapi.Replica, len(rs))
	for i, r := range rs {
		out[i] = openapi.Replica{
			ReplicaID: r.ReplicaID, DaemonID: r.DaemonID, State: openapi.ReplicaState(r.State),
			Replaces: r.Replaces, DaemonState: daemonState(r.DaemonState), Missing: r.Missing,
			Reported: summary(r.Reported), ReportedAt: instant(r.ReportedAt),
		}
	}
	return out
}

// daemonState shows a daemon that is not known any more as down.
func daemonState(s store.DaemonState) openapi.DaemonState {
	if s == "" {
		return openapi.DaemonDown
	}
	return openapi.DaemonState(s)
}

func writer(w *store.Writer) *openapi.Writer {
	if w == nil {
		return nil
	}
	return &openapi.Writer{
		WriterID: w.WriterID, Name: w.Name, Host: w.Host, PID: int32(w.PID),
		Epoch: int64(w.Epoch), Recovering: w.Recovering, Since: w.Since.UTC(),
	}
}

func journal(e *store.JournalEntry) *openapi.JournalEntry {
	if e == nil {
		return nil
	}
	out := &openapi.JournalEntry{
		EntryID: e.EntryID, At: e.At.UTC(), Kind: openapi.JournalKind(e.Kind), LogID: e.LogID, LogName: e.LogName,
		DaemonID: e.DaemonID, ReplicaID: e.ReplicaID, Epoch: int64(e.Epoch), Detail: e.Detail, Count: e.Count,
		Who: e.Who, Via: e.Via, From: e.From, RequestID: e.RequestID,
	}
	if e.Problem != "" {
		out.Problem = openapi.ProblemPrefix + e.Problem
	}
	for _, g := range e.GivenUp {
		out.GivenUp = append(out.GivenUp, openapi.GivenUpReplica{ReplicaID: g.ReplicaID, Detail: g.Detail})
	}
	return out
}

func operators(steps []store.Step) []openapi.Operator {
	out := make([]openapi.Operator, len(steps))
	for i, s := range steps {
		out[i] = openapi.Operator{
			OperatorID: s.OperatorID, Kind: openapi.OperatorKind(s.Kind),
			LogID: s.LogID, ReplicaID: s.ReplicaID, SetVersion: int64(s.SetVersion),
		}
	}
	return out
}

func storeResults(rs []openapi.OperatorResult) []store.StepResult {
	out := make([]store.StepResult, len(rs))
	for i, r := range rs {
		out[i] = store.StepResult{
			OperatorID: r.OperatorID, Kind: string(r.Kind), ReplicaID: r.ReplicaID,
			Done: r.Ok, Error: r.Error,
		}
	}
	return out
}

// convert changes the element type; nil becomes empty, which JSON shows as [].
func convert[To, From ~string](in []From) []To {
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = To(v)
	}
	return out
}

func labels(m map[string]string) openapi.Labels {
	if m == nil {
		return openapi.Labels{}
	}
	return m
}

// instant is nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// wholeSeconds rounds down: who renews by it renews early.
func wholeSeconds(d time.Duration) int64 { return int64(d / time.Second) }

// lagSeconds keeps a view that was never filled within what JSON readers can
// show.
func lagSeconds(d time.Duration) float64 { return math.Min(d.Seconds(), 1e9) }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
