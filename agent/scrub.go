package agent

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

const (
	catchUp     = 10     // the part of a second's bytes that may be read at once, after a wait that was too long
	firstScrub  = 24     // the first scrub begins within ScrubEvery by this, so that daemons started together don't scrub together
	sysfs       = "/sys" // where the kernel tells of bad blocks
	scrubJitter = 10     // later ones within this part of ScrubEvery around it
)

// scrubber reads the pool through again and again, one replica after the other
// and no faster than Options.ScrubRate. It has a lane of its own: nothing waits
// for it, and it keeps nothing waiting.
type scrubber struct {
	a     *Agent
	limit *rate.Limiter
	asked chan openapi.Operator // has room for one: the control plane wants a scrub

	bytes, records, runs, damage, healed atomic.Uint64
	busy                                 atomic.Bool  // one that was asked for is under way
	completed                            atomic.Int64 // when a scrub of all has ended last, since begun
	begun                                time.Time
}

func newScrubber(a *Agent) *scrubber {
	pace := a.opts.ScrubRate
	s := &scrubber{a: a, begun: time.Now(), asked: make(chan openapi.Operator, 1), limit: rate.NewLimiter(rate.Limit(pace), int(min(pace/catchUp, math.MaxInt32)))}
	s.limit.AllowN(s.begun, s.limit.Burst()) // nothing is to be caught up with yet
	return s
}

// age is how long ago a scrub of all has ended, or since the agent was made.
func (s *scrubber) age() time.Duration {
	return time.Since(s.begun) - time.Duration(s.completed.Load())
}

// pace waits until n bytes may be read.
func (s *scrubber) pace(ctx context.Context, n int) error {
	for n > 0 {
		some := min(n, s.limit.Burst())
		if err := s.limit.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// ask has the pool scrubbed for the control plane. It never waits: while one is
// asked for or under way, asking again changes nothing.
func (s *scrubber) ask(op openapi.Operator) {
	if s.busy.Load() {
		return
	}
	select {
	case s.asked <- op:
	default:
	}
}

// run scrubs every now and then, and when it is asked to, until ctx ends.
func (s *scrubber) run(ctx context.Context) error {
	every := s.a.opts.ScrubEvery
	var due <-chan time.Time // never, unless there is a time between scrubs
	var t *time.Timer
	if every >= 0 {
		t = time.NewTimer(rand.N(every/firstScrub + 1))
		defer t.Stop()
		due = t.C
	}
	for {
		var begun time.Time
		select {
		case <-due:
			begun = time.Now()
			s.scrub(ctx)
		case op := <-s.asked:
			begun = time.Now()
			s.carryOut(ctx, &op)
		case <-ctx.Done():
			return nil
		}
		if t != nil {
			around := every - every/scrubJitter + rand.N(2*(every/scrubJitter)+1)
			t.Reset(max(0, around-time.Since(begun)))
		}
	}
}

// carryOut scrubs for the control plane, and tells it what came of that.
func (s *scrubber) carryOut(ctx context.Context, op *openapi.Operator) {
	s.busy.Store(true)
	defer s.busy.Store(false)
	switch complete := s.scrub(ctx); {
	case ctx.Err() != nil: // asked for again elsewhere or later
	case complete:
		s.a.result(op, nil)
	default:
		s.a.result(op, errIncomplete)
	}
}

// errIncomplete says that not all of a pool could be read through; what it was is
// in the log and, of a replica, in its summary.
var errIncomplete = errors.New("a part of the pool could not be read through; see the daemon's log")

// scrub reads the pool's own structures and then its replicas. What goes wrong
// with one keeps it from none of the others. It returns whether all could be read
// through, damaged or not.
func (s *scrubber) scrub(ctx context.Context) (complete bool) {
	begun := time.Now()
	complete = s.pool(ctx)
	for _, l := range s.a.pool.Replicas() {
		if ctx.Err() != nil {
			return false
		}
		if l.Err == nil { // else that was said when the agent was started
			complete = s.replica(ctx, l.Replica) && complete
		}
	}
	if !complete || ctx.Err() != nil {
		return false
	}
	s.runs.Add(1)
	s.completed.Store(int64(time.Since(s.begun)))
	s.a.log.Info("scrubbed the pool", "seconds", time.Since(begun).Seconds(), "damaged_replicas", s.a.damaged())
	return true
}

// pool returns whether the pool's own structures could be read through.
func (s *scrubber) pool(ctx context.Context) bool {
	res, err := s.a.pool.Scrub(ctx, s.pace)
	s.bytes.Add(res.Bytes)
	s.healed.Add(uint64(len(res.Healed)))
	s.damage.Add(uint64(len(res.Healed) + len(res.Damaged)))
	for i := range res.Healed {
		s.a.log.Warn("a scrub has found damage in the pool and healed it", "err", &res.Healed[i])
	}
	for i := range res.Damaged {
		s.a.log.Error("a scrub has found damage in the pool", "err", &res.Damaged[i])
	}
	return s.came(err)
}

// replica returns whether a replica could be read through, damaged or not, or is
// none any more.
func (s *scrubber) replica(ctx context.Context, id format.ID) bool {
	r, err := s.a.pool.Replica(id)
	if err != nil {
		return errors.Is(err, pmemlog.ErrNotFound)
	}
	res, err := r.Scrub(ctx, s.pace)
	s.bytes.Add(res.Bytes)
	s.records.Add(res.Records)
	s.healed.Add(uint64(len(res.Healed)))
	s.damage.Add(uint64(len(res.Healed)))
	log := s.a.log.With("log", r.Log(), "replica", id)
	for _, part := range res.Healed {
		log.Warn("a scrub has found damage in a replica's header and healed it", "err", part)
	}
	if res.Header != nil {
		s.damage.Add(1)
		log.Error("a scrub has found damage in a replica's header", "err", res.Header)
	}
	if d := res.Damage; d != nil {
		s.damage.Add(1)
		log.Error("a scrub has found a damaged replica; its writer repairs it, or the next that opens the log", "lsn", d.LSN, "err", d.Err)
		s.repair(r, d)
	}
	return s.came(err)
}

// came returns whether a scrub came to its end, and logs why not.
func (s *scrubber) came(err error) bool {
	switch {
	case err == nil, errors.Is(err, pmemlog.ErrNotFound):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, pmemlog.ErrClosed): // the agent leaves
	case errors.Is(err, pmemlog.ErrUnsettled): // each fence has read it through
		s.a.log.Info("a replica was not scrubbed", "err", err)
		return true
	default:
		s.a.log.Warn("a scrub did not come to its end", "err", err)
	}
	return false
}

// repair has the replica's writer connect again: its fence then finds what the
// replica lacks, and the writer sends that from its mirror. A pool that takes no
// writes can't be repaired, and serves on as it is; where a fence has cut the tail
// off meanwhile, the repair is under way.
func (s *scrubber) repair(r *pmemlog.Replica, d *pmemlog.Damage) {
	signal(s.a.news)
	if now := r.Info(); now.Failure != nil || now.Damage == nil || now.Tail <= d.LSN {
		return
	}
	if h := s.a.catalog.served(r.ID()); h != nil {
		h.endFenced(refuse(rdmaio.ErrMedium, "a scrub has found the replica damaged from LSN %d on (%v): connect again to repair it", d.LSN, d.Err))
	}
}

// damaged counts the replicas that are known to be damaged.
func (a *Agent) damaged() int {
	n := 0
	for _, l := range a.pool.Replicas() {
		if r, err := a.pool.Replica(l.Replica); err != nil || r.Info().Damage != nil {
			n++
		}
	}
	return n
}

// lookAtBadBlocks tells what the kernel knows of bad sectors under the pool, and
// returns their bytes.
func (a *Agent) lookAtBadBlocks(sysfs string) uint64 {
	if a.opts.Media == MediaVolatile {
		return 0
	}
	path := a.opts.poolPath()
	ranges, err := pmemlog.BadBlocks(path, sysfs)
	if err != nil {
		a.log.Warn("the kernel's list of bad blocks can't be read", "err", err)
		return 0
	}
	var sectors uint64
	for _, r := range ranges {
		sectors += r.Count
	}
	if sectors > 0 {
		a.log.Warn("the device under the pool has bad blocks; a scrub finds out whether replicas lie on them", "pool", path, "ranges", len(ranges), "bytes", sectors*pmemlog.SectorSize, "first_sector", ranges[0].Sector)
	}
	return sectors * pmemlog.SectorSize
}
