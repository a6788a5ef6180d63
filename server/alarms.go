package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// etcdAlarms tells what keeps etcd from taking writes, or soon will.
func etcdAlarms(h store.EtcdHealth) []openapi.Alarm {
	var out []openapi.Alarm
	size := fmt.Sprintf("its database has %d of %d bytes", h.DBBytes, h.QuotaBytes)
	switch {
	case h.NoSpace:
		out = append(out, openapi.Alarm{Kind: openapi.AlarmEtcdNoSpace, Detail: "etcd has no space left and takes no writes: " + size})
	case h.NearlyFull():
		out = append(out, openapi.Alarm{Kind: openapi.AlarmEtcdNearlyFull, Detail: "etcd will soon have no space left: " + size})
	}
	if h.Corrupt {
		out = append(out, openapi.Alarm{Kind: openapi.AlarmEtcdCorrupt, Detail: "etcd says that its members' databases differ, and takes no writes"})
	}
	return out
}

// logAlarms separates a log that cannot be written or opened from one that has
// only lost some of its safety.
func logAlarms(l *store.Log) (unavailable, other []openapi.Alarm) {
	here, promised, set := 0, 0, 0
	for _, r := range l.Replicas {
		if r.State == store.ReplicaLearner {
			continue // it counts for nothing
		}
		set++
		if r.State == store.ReplicaPresent {
			promised++
		}
		if r.DaemonState != store.DaemonDown && r.DaemonState != "" && !r.Missing {
			here++
		}
		if r.Missing {
			other = append(other, logAlarm(openapi.AlarmReplicaMissing, l, r.DaemonID,
				fmt.Sprintf("daemon %s is up and can't find its replica of log %s", r.DaemonID, l.Name)))
		}
		if r.Reported != nil && r.Reported.Suspect {
			other = append(other, logAlarm(openapi.AlarmReplicaSuspect, l, r.DaemonID,
				suspicion(l, &r)))
		}
	}
	text := fmt.Sprintf("log %s has %d of %d replicas here and needs %d", l.Name, here, set, l.AckQuorum)
	switch {
	case here < l.AckQuorum:
		unavailable = append(unavailable, logAlarm(openapi.AlarmLogUnavailable, l, "", text))
	case l.State == store.LogDegraded && promised > 0:
		other = append(other, logAlarm(openapi.AlarmLogDegraded, l, "", text))
	}
	return unavailable, other
}

// suspicion says what is wrong with a replica and who repairs it.
func suspicion(l *store.Log, r *store.Replica) string {
	what := "has lost something that it once had"
	if r.Reported.Damage != "" {
		what = fmt.Sprintf("is damaged from LSN %d on (%s)", r.Reported.DamageLSN, r.Reported.Damage)
	}
	who := "the next open repairs it"
	if l.Writer != nil {
		who = "its writer repairs it when it connects again"
	}
	return fmt.Sprintf("the replica of log %s on daemon %s %s; %s", l.Name, r.DaemonID, what, who)
}

// replacementAlarm tells of a replacement while it is under way. It is no
// trouble by itself.
func replacementAlarm(l *store.Log) []openapi.Alarm {
	i := slices.IndexFunc(l.Replicas, func(r store.Replica) bool { return r.State == store.ReplicaLearner })
	if i < 0 {
		return nil
	}
	learner := &l.Replicas[i]
	from := learner.Replaces
	for _, r := range l.Replicas {
		if r.ReplicaID == learner.Replaces {
			from = r.DaemonID
		}
	}
	return []openapi.Alarm{logAlarm(openapi.AlarmReplacement, l, learner.DaemonID,
		fmt.Sprintf("the replica of log %s on daemon %s is being replaced by one on daemon %s", l.Name, from, learner.DaemonID))}
}

func logAlarm(kind openapi.AlarmKind, l *store.Log, daemonID, detail string) openapi.Alarm {
	return openapi.Alarm{Kind: kind, LogID: l.LogID, DaemonID: daemonID, Detail: detail}
}

func daemonAlarms(d *store.Daemon) []openapi.Alarm {
	var out []openapi.Alarm
	add := func(kind openapi.AlarmKind, format string, args ...any) {
		out = append(out, openapi.Alarm{Kind: kind, DaemonID: d.DaemonID, Detail: fmt.Sprintf(format, args...)})
	}
	if d.State == store.DaemonDown {
		add(openapi.AlarmDaemonDown, "daemon %s is down%s", d.DaemonID, since(d.DownSince))
	}
	if h := health(d.Health); d.State != store.DaemonDown && h.State != openapi.HealthOK {
		add(openapi.AlarmDaemonUnhealthy, "daemon %s says that it is %s: %s", d.DaemonID, h.State, h.Reason)
	}
	if n := len(d.Quarantined); n > 0 {
		add(openapi.AlarmQuarantine, "daemon %s holds %d replicas (%d bytes) that no log knows, or not as they are", d.DaemonID, n, d.QuarantinedBytes)
	}
	return out
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.UTC().Format(time.RFC3339)
}

// certificateAlarm tells that this server's certificate must be renewed. Once it has
// expired, only those learn it who are asked by connections that they have already, or
// do not verify it.
func (s *Server) certificateAlarm() []openapi.Alarm {
	if s.o.Identities == nil || s.o.Identities.TLS == nil {
		return nil
	}
	e := s.o.Identities.TLS.Expiry()
	if !e.Soon {
		return nil
	}
	is := "is about to expire"
	if e.Past {
		is = "has expired"
	}
	return []openapi.Alarm{{Kind: openapi.AlarmCertificate, Detail: fmt.Sprintf("this server's certificate %s (%s): renew its files, it reads them again by itself", is, e.At.UTC().Format(time.RFC3339))}}
}

// volatileAlarm says in one line that some pools forget everything.
func volatileAlarm(ds []store.Daemon) []openapi.Alarm {
	var ids []string
	for i := range ds {
		if ds[i].Media == string(openapi.MediaVolatile) {
			ids = append(ids, ds[i].DaemonID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	shown := ids[:min(len(ids), 10)]
	text := "volatile media lose everything with their process: " + strings.Join(shown, ", ")
	if n := len(ids) - len(shown); n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return []openapi.Alarm{{Kind: openapi.AlarmVolatileMedia, Detail: text}}
}
