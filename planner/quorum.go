package planner

import "fmt"

// lacks says what a log lacks for a step to come to its end, for people, or "". of
// is the replica that would leave, or nil. What could not end would hold a
// learner's room, and be given up and begun again for as long as that lasts.
func (r *round) lacks(l *Log, of *Replica) string {
	if n := r.readable(l); n < l.needed() {
		return fmt.Sprintf("more replicas: of %d replicas, %s here, and %d must be to know what was acknowledged (graven log recover --help)",
			l.members(), are(n), l.needed())
	}
	if l.Written && of != nil {
		return r.lacksForWriter(l, of)
	}
	if n, must := r.serving(l), max(l.needed(), l.AckQuorum); n < must {
		return fmt.Sprintf("more replicas: of %d replicas, %s here and %s writes, and %d must be for the log to be opened",
			l.members(), are(n), take(n), must)
	}
	return ""
}

// lacksForWriter is for a replacement that a writer carries out. It has all that
// there is, so that the old set need not be there: the ack quorum of the new one
// must. Without a writer the log is opened first, and a learner that is not of the
// set yet does not count there.
func (r *round) lacksForWriter(l *Log, of *Replica) string {
	n := r.serving(l)
	if r.serves(of) {
		n--
	}
	if n+1 >= l.AckQuorum {
		return ""
	}
	return fmt.Sprintf("more replicas: of the %d other replicas, %s here and %s writes, and %d must be for its writer to go on with the new one",
		l.members()-1, are(n), take(n), l.AckQuorum-1)
}

func are(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}

func take(n int) string {
	if n == 1 {
		return "takes"
	}
	return "take"
}

// readable counts the copies whose contents can be known.
func (r *round) readable(l *Log) int { return count(l, r.here) }

// serving counts the copies that can acknowledge. A pool that takes no writes can
// not even be fenced.
func (r *round) serving(l *Log) int { return count(l, r.serves) }

func count(l *Log, counts func(*Replica) bool) int {
	n := 0
	for i := range l.Replicas {
		if counts(&l.Replicas[i]) {
			n++
		}
	}
	return n
}

// here says whether a replica can be read.
func (r *round) here(rep *Replica) bool {
	d := r.daemons[rep.DaemonID]
	return d != nil && d.Up && !rep.Learner && !rep.Missing
}

func (r *round) serves(rep *Replica) bool {
	return r.here(rep) && !r.daemons[rep.DaemonID].ReadOnly
}

// members is the size of the log's set.
func (l *Log) members() int { return count(l, func(rep *Replica) bool { return !rep.Learner }) }

// needed is how many copies must be known for the log to be opened without
// anybody's word for what is lost: fewer must be unknown than an acknowledged
// record is on.
func (l *Log) needed() int { return l.members() - l.AckQuorum + 1 }
