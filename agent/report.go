package agent

import (
	"net"
	"strconv"
	"strings"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// maxReason bounds what the control plane is told of the daemon's health, in
// bytes.
const maxReason = 256

// maxDamaged bounds of how many damaged replicas the control plane is told what
// is wrong with them; of the others it hears that they are.
const maxDamaged = 32

// clip cuts a text for the control plane.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// The functions of this file say what the control plane is told. None of them
// waits for I/O: the pool and its replicas answer from memory.

func (a *Agent) registration() openapi.RegisterRequest {
	self, space := a.pool.Identity(), a.pool.Free()
	host, port := a.advertised()
	return openapi.RegisterRequest{
		PoolID: self.Pool.String(), Incarnation: int64(a.Incarnation()), TCPAddr: host, TCPPort: port,
		CapacityBytes: space.Total, FreeBytes: free(space), Media: openapi.Media(self.Kind.String()),
		Transports: []openapi.Transport{openapi.TransportTCP}, FlushModes: []openapi.FlushMode{openapi.FlushAck},
		Labels: a.opts.Labels, Health: a.health(), Replicas: a.replicas(), Seals: a.seals(), Version: a.opts.Version,
		KeysVersion:     a.trust.keptVersion(),
		EtcdMark:        a.marks.highest(),
		LeaseTTLSeconds: openapi.LeaseTTL(a.opts.LeaseTTL.Seconds()),
	}
}

func (a *Agent) heartbeat() openapi.HeartbeatRequest {
	return openapi.HeartbeatRequest{
		Incarnation: int64(a.Incarnation()), FreeBytes: free(a.pool.Free()), Health: a.health(),
		Replicas: a.replicas(), Results: a.results.unreported(), KeysVersion: a.trust.keptVersion(),
		EtcdMark: a.marks.highest(),
	}
}

// free is what new replicas may take.
func free(s pmemlog.Space) int64 {
	if s.Entries == 0 {
		return 0
	}
	return s.Free
}

// advertised is where clients reach the daemon.
func (a *Agent) advertised() (host string, port int32) {
	host, digits, _ := net.SplitHostPort(a.Addr().String()) // it is one of a listening socket
	n, _ := strconv.Atoi(digits)
	if a.opts.Advertise != "" {
		host = a.opts.Advertise
	}
	return host, int32(n)
}

func (a *Agent) health() openapi.Health {
	failure := a.pool.Failure()
	switch {
	case failure != nil:
		return openapi.Health{State: openapi.HealthReadOnly, Reason: clip(failure.Error())}
	case a.watch.stuck():
		return openapi.Health{State: openapi.HealthDegraded, Reason: "the medium has not answered a sync for more than " + slowSync.String()}
	}
	return openapi.Health{State: openapi.HealthOK}
}

// replicas lists all that is in the pool, whether it can be used or not.
func (a *Agent) replicas() []openapi.ReplicaSummary {
	listed := a.pool.Replicas()
	out := make([]openapi.ReplicaSummary, 0, len(listed))
	told := 0
	damaged := func(s *openapi.ReplicaSummary, lsn uint64, err error) {
		s.Suspect = true
		if told++; told <= maxDamaged {
			s.DamageLSN, s.Damage = openapi.LSN(lsn), clip(err.Error())
		}
	}
	for _, l := range listed {
		s := openapi.ReplicaSummary{ReplicaID: l.Replica.String(), LogID: l.Log.String(), Bytes: l.Bytes}
		if r, err := a.pool.Replica(l.Replica); err == nil {
			i := r.Info()
			s.Epoch, s.TrimLSN = int64(i.Slot.Fenced.Epoch), openapi.LSN(i.Slot.Trim.LSN)
			s.TailLSN, s.DurableLSN = openapi.LSN(i.Tail), openapi.LSN(i.Durable)
			if !i.Scanned { // it has been acknowledged up to here at least
				known := openapi.LSN(max(i.Slot.Hint.LSN, i.Slot.Trim.LSN))
				s.TailLSN, s.DurableLSN = known, known
			}
			if i.Damage != nil {
				damaged(&s, i.Damage.LSN, i.Damage.Err)
			}
		} else { // it can't be used any more
			damaged(&s, 0, err)
		}
		out = append(out, s)
	}
	return out
}

// firstSet is the version of every log's first set; no record can be older.
const firstSet = 1

// maxSeals bounds how many are told, so that a registration stays within what a
// server reads. The other members of those logs' sets are elsewhere, and tell it, too.
const maxSeals = 2048

// seals are the newest seals that name a newer set than a log's first: a control
// plane that was set back takes the set from them.
func (a *Agent) seals() []openapi.ReplicaSeal {
	var out []openapi.ReplicaSeal
	for _, l := range a.pool.Replicas() {
		r, err := a.pool.Replica(l.Replica)
		if err != nil {
			continue
		}
		slot := r.Info().Slot
		newest, ok := (&format.Report{Seals: slot.Seals}).NewestSeal()
		if !ok || newest.SetVersion <= firstSet || len(slot.Set) == 0 {
			continue
		}
		if len(out) == maxSeals {
			break
		}
		s := openapi.ReplicaSeal{ReplicaID: l.Replica.String(), SetVersion: int64(newest.SetVersion)}
		for _, id := range slot.Set {
			s.Set = append(s.Set, id.String())
		}
		out = append(out, s)
	}
	return out
}
