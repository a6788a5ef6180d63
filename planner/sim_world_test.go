package planner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gravenio/graven/placement"
)

// world is a cluster that carries plans out, on a clock of its own, and that
// things happen to.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	p      *Planner
	v      *View
	l      Limits
	paused bool
	now    Duration
	made   int // of what has an ID

	roomy, lenient bool // daemons have space, logs few rules
	many           bool // there are more logs than steps are listed
	calm           bool

	m         *model
	times     map[string]Duration // since when conditions last, as of the last plan
	condemned []condemned
	replaces  map[string]string // replicas, by their learners
	hangs     map[string]bool   // attempts of operators that come to nothing
	begun     map[string]bool   // scrubs, since the last plan
	saw       map[string]int
}

// condemned is a replica that is no log's any more, and takes its room still.
type condemned struct {
	daemon string
	bytes  int64
}

const (
	unit   = 1 << 20 // of space
	worlds = 12      // one seed in so many makes a world with many logs
)

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), p: New(seed), v: &View{}, times: map[string]Duration{},
		replaces: map[string]string{}, hangs: map[string]bool{}, begun: map[string]bool{}, saw: map[string]int{},
	}
	w.roomy, w.lenient = w.oneIn(2), w.oneIn(2)
	logs := 8 + w.rnd.IntN(20)
	if seed%worlds == 0 {
		w.many, w.roomy, w.lenient, logs = true, true, true, MaxQueue+40
	}
	for range 8 + w.rnd.IntN(8) {
		w.addDaemon()
	}
	for tries := 0; len(w.v.Logs) < logs && tries < 4*logs; tries++ {
		w.addLog()
	}
	w.drawLimits()
	if w.many { // and wait
		w.paused = true
		for i := range w.v.Daemons {
			w.v.Daemons[i].Draining = !w.oneIn(4)
		}
	}
	return w
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("at %v, limits %+v: %s", w.now, w.l, fmt.Sprintf(format, args...))
}

func pick[T any](w *world, of ...T) T { return of[w.rnd.IntN(len(of))] }

// oneIn says yes once in so many times.
func (w *world) oneIn(n int) bool { return w.rnd.IntN(n) == 0 }

func (w *world) drawLimits() {
	w.l = Limits{
		Grace: 10 * Minute, Timeout: 15 * Minute, RecoverAfter: Minute,
		PerDaemon: 1 + w.rnd.IntN(3), Cluster: 1 + w.rnd.IntN(10),
		MaxDownPercent: pick(w, 10, 25, 50, 100), ScrubEvery: pick(w, 0, 20*Minute, Hour, 20*Hour),
	}
	if w.many { // and time to bring them all to rest
		w.l.PerDaemon, w.l.Cluster = 6+w.l.PerDaemon, 30+w.l.Cluster
	}
}

func (w *world) name(kind string) string {
	w.made++
	return fmt.Sprint(kind, w.made)
}

func (w *world) addDaemon() {
	d := Daemon{Daemon: placement.Daemon{
		ID: w.name("d"), Media: pick(w, "file", "file", "file", "file", "pmem", "volatile"),
		Transports:    pick(w, []string{"tcp"}, []string{"tcp"}, []string{"tcp", "verbs"}),
		CapacityBytes: unit * pick(w, int64(4), 6, 8, 12), Up: true,
	}, Session: 1}
	if w.roomy {
		d.CapacityBytes = 1 << 40
	}
	d.FreeBytes = d.CapacityBytes
	w.v.Daemons = append(w.v.Daemons, d)
	w.label(&w.v.Daemons[len(w.v.Daemons)-1])
}

// label draws where a daemon stands. Some don't say.
func (w *world) label(d *Daemon) {
	d.Labels = map[string]string{
		"zone": fmt.Sprint("z", w.rnd.IntN(4)), "rack": fmt.Sprint("r", w.rnd.IntN(7)), "disk": pick(w, "fast", "fast", "slow"),
	}
	if w.oneIn(12) {
		delete(d.Labels, pick(w, "zone", "rack", "disk"))
	}
	if w.oneIn(4) {
		d.Labels["host"] = fmt.Sprint("h", w.rnd.IntN(8))
	}
}

// addLog makes a log where its rules leave a place for it.
func (w *world) addLog() {
	w.account()
	n := pick(w, 1, 2, 2, 3, 3, 3, 3, 3, 3, 4, 5, 7)
	l := Log{
		ID: w.name("l"), AckQuorum: pick(w, n/2+1, n/2+1, n/2+1+w.rnd.IntN(n-n/2)), ReplicaBytes: unit * int64(1+w.rnd.IntN(2)),
		FailureDomain: pick(w, "", placement.Host, placement.Rack, placement.Zone), Written: w.oneIn(2),
	}
	if !w.lenient {
		l.Transport, l.Media = pick(w, "", "", "tcp", "verbs"), pick(w, "", "", "file", "pmem", placement.MediaVolatile)
		l.Labels = pick(w, nil, nil, nil, map[string]string{"disk": "fast"})
	}
	var all []placement.Daemon
	for i := range w.v.Daemons {
		all = append(all, w.v.Daemons[i].Daemon)
	}
	ids, err := placement.Place(all, placement.Request{
		Replicas: n, ReplicaBytes: l.ReplicaBytes, FailureDomain: l.FailureDomain, Transport: l.Transport, Media: l.Media, Labels: l.Labels,
	}, w.rnd.Uint64())
	if err != nil {
		return
	}
	for _, id := range ids {
		l.Replicas = append(l.Replicas, Replica{ID: w.name("r"), DaemonID: id, Reported: !w.oneIn(10), Epoch: 1, DurableLSN: 10})
	}
	w.v.Logs = append(w.v.Logs, l)
}

// account brings what the view says of space and use up to date.
func (w *world) account() {
	for i := range w.v.Daemons {
		d := &w.v.Daemons[i]
		d.Holds, d.FreeBytes = false, d.CapacityBytes
		for j := range w.v.Logs {
			for _, r := range w.v.Logs[j].Replicas {
				if r.DaemonID == d.ID {
					d.Holds, d.FreeBytes = true, d.FreeBytes-w.v.Logs[j].ReplicaBytes
				}
			}
		}
		for _, c := range w.condemned {
			if c.daemon == d.ID {
				d.FreeBytes -= c.bytes
			}
		}
		if d.FreeBytes < 0 {
			w.fatalf("%d bytes of daemon %s were promised twice", -d.FreeBytes, d.ID)
		}
	}
}

func (w *world) daemon(id string) *Daemon {
	return the(w.v.Daemons, func(d *Daemon) bool { return d.ID == id })
}

func (w *world) log(id string) *Log {
	return the(w.v.Logs, func(l *Log) bool { return l.ID == id })
}

func (w *world) op(id string) *Operator {
	return the(w.v.Operators, func(o *Operator) bool { return o.ID == id })
}

// the is the one that matches, or nil.
func the[T any](all []T, matches func(*T) bool) *T {
	for i := range all {
		if matches(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// forget removes an operator's record.
func (w *world) forget(id string) {
	w.v.Operators = slices.DeleteFunc(w.v.Operators, func(o Operator) bool { return o.ID == id })
}

// drop takes a replica out of its log.
func (w *world) drop(l *Log, id string) {
	if r := l.replica(id); r != nil {
		w.condemned = append(w.condemned, condemned{r.DaemonID, l.ReplicaBytes})
		l.Replicas = slices.DeleteFunc(l.Replicas, func(r Replica) bool { return r.ID == id })
	}
}
