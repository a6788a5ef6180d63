package main

import (
	"context"
	"errors"
	"hash/crc32"
	"time"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// What is measured, by the names of the JSON.
const (
	benchGraven = "graven"
	benchLibPM  = "libpmem"
	benchFio    = "fio"
	benchCRC    = "crc32c"

	pmemAppend = "append"
	pmemCrowd  = "one log"
	pmemBatch  = "batch"
	pmemScan   = "scan"
	pmemOpen   = "open"
)

const pmemRecord = 4 << 10 // payload of a record in a batch or a scan, in bytes

// crowdRecords are the payloads, in bytes, that many append to one log: the larger they
// are, the sooner it is the disk's bytes a second that are the limit, not its syncs.
func crowdRecords() []int { return []int{64, 512, pmemRecord} }

// prepare makes the pool of a medium, and the cases that are measured on it.
func (b *pmemBench) prepare(media string) error {
	sizes := []int{64, 512, 4 << 10, 64 << 10}
	room := int64(len(sizes)+2+len(crowdRecords()))*(int64(b.fl.ring)+1<<20) + int64(b.fl.appenders)*(2*appenderRing)
	p, err := b.makePool(media, room)
	if err != nil {
		return err
	}
	next := byte(0)
	replica := func(ring int64, payload int) (*appender, error) {
		next++
		return newAppender(p, next, ring, payload)
	}
	for _, n := range sizes {
		a, err := replica(int64(b.fl.ring), n)
		if err != nil {
			return err
		}
		b.add(&pmemItem{Media: media, What: pmemAppend, Size: int64(n), Appenders: 1}, a.appends, b.beside(media, pmemAppend, n, 1))
	}
	a, err := replica(int64(b.fl.ring), pmemRecord)
	if err != nil {
		return err
	}
	b.add(&pmemItem{Media: media, What: pmemBatch, Size: pmemBatchSize, Appenders: 1}, a.batches, b.beside(media, pmemBatch, pmemBatchSize, 1))
	if media == agent.MediaFile {
		if err := b.prepareMany(replica); err != nil {
			return err
		}
	}
	if a, err = replica(int64(b.fl.ring), pmemRecord); err != nil {
		return err
	}
	if err := b.prepareScan(media, a); err != nil || media != agent.MediaVolatile {
		return err
	}
	return b.prepareOpen()
}

// prepareMany has many append to one pool at a time, each to a log of its own, and
// then all to one log: their syncs are shared.
func (b *pmemBench) prepareMany(replica func(ring int64, payload int) (*appender, error)) error {
	var all appenders
	for range b.fl.appenders {
		a, err := replica(appenderRing, pmemRecord)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	item := &pmemItem{Media: agent.MediaFile, What: pmemAppend, Size: pmemRecord, Appenders: len(all)}
	b.add(item, all.appends, b.beside(agent.MediaFile, pmemAppend, pmemRecord, len(all)))
	for _, n := range crowdRecords() {
		a, err := replica(int64(b.fl.ring), n)
		if err != nil {
			return err
		}
		item = &pmemItem{Media: agent.MediaFile, What: pmemCrowd, Size: int64(n), Appenders: len(all)}
		b.add(item, newCrowd(a, len(all)).appends, b.fioAtOnce(n, len(all)))
	}
	return nil
}

// prepareScan measures the scan of a full ring beside the checksum of as many
// bytes in memory.
func (b *pmemBench) prepareScan(media string, a *appender) error {
	if err := a.fill(); err != nil {
		return err
	}
	bytes := make([]byte, a.capacity)
	if err := a.s.Read(a.trim, bytes); err != nil {
		return err
	}
	b.add(&pmemItem{Media: media, What: pmemScan, Size: int64(a.capacity), Appenders: 1}, a.scans, checksums(bytes))
	return nil
}

// prepareOpen measures how long it takes until a pool in memory has been opened
// and its log fenced, which reads all of it.
func (b *pmemBench) prepareOpen() error {
	opts := pmemlog.FormatOptions{PoolID: benchID(1), ClusterID: benchID(2), Size: int64(b.fl.openRing) + 32<<20}
	m, err := pmemlog.NewVolatile(opts.Size)
	if err != nil {
		return err
	}
	p, err := pmemlog.Format(m, opts)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	b.pools = append(b.pools, p)
	a, err := newAppender(p, 1, int64(b.fl.openRing), pmemRecord)
	if err != nil {
		return err
	}
	if err := a.fill(); err != nil {
		return err
	}
	at := p.Replicas()[0].Offset + format.RingOffset
	open := func(ctx context.Context, d time.Duration) (work, error) {
		return repeat(ctx, d, int64(a.capacity), func() error { return openAgain(m) })
	}
	item := &pmemItem{Media: agent.MediaVolatile, What: pmemOpen, Size: int64(a.capacity), Appenders: 1}
	b.add(item, open, checksums(m.Bytes()[at:at+int64(a.capacity)]))
	return nil
}

// openAgain does what an agent does after a start. The pool that is open on the
// medium has nothing to do meanwhile.
func openAgain(m pmemlog.Medium) error {
	p, err := pmemlog.Open(m)
	if err != nil {
		return err
	}
	r, err := p.Replica(benchID(1))
	if err != nil {
		return err
	}
	_, err = r.Attach(false).Fence(benchTerm())
	return err
}

// repeat does something over and over until the time has passed.
func repeat(ctx context.Context, d time.Duration, bytes int64, do func() error) (work, error) {
	var w work
	for start := time.Now(); w.ops == 0 || w.elapsed < d; w.elapsed = time.Since(start) {
		if err := ctx.Err(); err != nil {
			return w, err
		}
		if err := do(); err != nil {
			return w, err
		}
		w.ops++
		w.bytes += bytes
	}
	return w, nil
}

// checksums measures CRC32C over bytes as they lie there.
func checksums(bytes []byte) baseline {
	table := crc32.MakeTable(crc32.Castagnoli)
	return baseline{name: benchCRC, measure: func(ctx context.Context, d time.Duration) (work, error) {
		return repeat(ctx, d, int64(len(bytes)), func() error {
			for at := 0; at < len(bytes); at += pmemRecord {
				crc32.Checksum(bytes[at:min(at+pmemRecord, len(bytes))], table)
			}
			return ctx.Err()
		})
	}}
}

// add has a case measured, beside its baseline.
func (b *pmemBench) add(item *pmemItem, m measurement, beside baseline) {
	item.Beside, item.Missing = beside.name, beside.missing
	item.figures = map[string][]pmemFigure{}
	b.result.Items = append(b.result.Items, item)
	b.cases = append(b.cases, &pmemCase{item: item, measure: m, baseline: beside.measure})
}
