package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gravenio/graven/rdmaio/tcp"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

const (
	openPatience = 30 * time.Second // for a log to open, and
	openPace     = 4 << 20          // bytes of its capacity a second; but Options.RecoverPatience at most
	settleTime   = 10 * time.Second // for the other replicas to catch up once the learner is in the set
)

// errNoProgress says that a recovery has been given up; what it waits for stands
// behind it.
var errNoProgress = errors.New("no progress")

// carryOut recovers a log and tells what has become of it.
func (l *lane) carryOut(ctx context.Context, s *step) error {
	log, begun := l.a.log.With("log", s.log, "learner", s.replica), time.Now()
	log.Info("recovering a log that has no writer")
	l.a.metrics.recoveries.Inc()
	err := l.recover(ctx, s)
	outcome := recoveryFailed
	log = log.With("seconds", time.Since(begun).Seconds())
	switch {
	case err == nil:
		outcome = recoveryDone
		log.Info("recovered a log")
		l.a.result(&s.op, nil)
	case ctx.Err() != nil:
		outcome = recoveryYielded
		log.Info("the daemon leaves: a recovery ends, and goes on elsewhere or later", "why", err)
	case yields(err):
		outcome = recoveryYielded
		log.Info("a writer has the log: the recovery is left to it", "why", err)
	default:
		log.Error("a log could not be recovered", "err", err)
		l.a.result(&s.op, err)
	}
	l.a.metrics.recovered.WithLabelValues(outcome).Inc()
	return err
}

// yields says that somebody else writes the log: whoever that is goes on with the
// replacement.
func yields(err error) bool {
	return errors.Is(err, replog.ErrInUse) || errors.Is(err, replog.ErrSuperseded) || errors.Is(err, replog.ErrFenced)
}

// recover opens the log on nobody's behalf and waits until the learner has taken
// its place, or never will.
func (l *lane) recover(ctx context.Context, s *step) error {
	if err := l.a.pool.Failure(); err != nil {
		return fmt.Errorf("the learner can't be filled: %w", err)
	}
	capacity, err := l.capacityOf(ctx, s.log)
	if err != nil {
		return err
	}
	if limit := uint64(l.a.opts.RecoverBytes); capacity > limit {
		return fmt.Errorf("the log's capacity is %d bytes, and daemon %s recovers up to %d (RecoverBytes): open it with a client, which then replaces the replica, or raise the limit",
			capacity, l.a.id, limit)
	}
	w, err := l.open(ctx, s, capacity)
	if err != nil {
		return err
	}
	if err = l.await(ctx, w); err == nil {
		l.settle(ctx, w)
	}
	if cerr := w.Close(); cerr != nil { // the lease ends by itself
		l.a.log.Warn("a recovered log's lease could not be given back", "log", s.log, "err", cerr)
	}
	return err
}

func (l *lane) open(ctx context.Context, s *step, capacity uint64) (*replog.Writer, error) {
	patience := min(openPatience+time.Duration(capacity/openPace)*time.Second, l.a.opts.RecoverPatience)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w for %v", errNoProgress, patience))
	defer cancel()
	key, err := tcp.NewKey()
	if err != nil {
		return nil, err
	}
	dialing := l.a.opts.TCP
	dialing.TLS, dialing.Key = nil, key // what is served with is not for dialling
	name := "agent " + l.a.id
	return replog.Open(ctx, control.New(l.api.API(), name[:min(len(name), maxWriterName)], 0).Proving(key.Digest()),
		replog.OpenRequest{Log: s.log.String(), Recovering: true},
		replog.Options{Dial: replog.DialTCP(dialing), Log: l.a.log, ReplaceAfter: -1})
}

// maxWriterName is the contract's bound, in bytes.
const maxWriterName = 63

// await waits for the end of the replacement as long as the learner is being
// filled.
func (l *lane) await(ctx context.Context, w *replog.Writer) error {
	patience := l.a.opts.RecoverPatience
	stuck := fmt.Errorf("%w for %v", errNoProgress, patience)
	for behind := lagOf(w); ; {
		turn, cancel := context.WithTimeoutCause(ctx, patience, stuck)
		err := w.AwaitReplaced(turn)
		cancel()
		if !errors.Is(err, errNoProgress) {
			return err
		}
		now := lagOf(w)
		if now >= behind {
			if others := w.Waiting(); others != "" {
				err = fmt.Errorf("%w; %s", err, others)
			}
			return err
		}
		behind = now
	}
}

// lagOf is how many bytes the learner lacks.
func lagOf(w *replog.Writer) uint64 {
	r, _ := w.Replacing()
	for _, s := range w.Status() {
		if s.ID == r.Learner {
			return s.Lag
		}
	}
	return 0
}

// settle lets the other replicas catch up: the log is open already, and a replica
// that lags now would lag at the next open, too.
func (l *lane) settle(ctx context.Context, w *replog.Writer) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := w.Settle(ctx); err != nil {
		l.a.log.Debug("a recovered log has not settled", "err", err)
	}
}
