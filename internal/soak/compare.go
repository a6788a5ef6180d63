package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
)

// compare lets everything settle, reads every log once more, and compares all
// that is written down anywhere. All processes run, and nobody works.
func (r *run) compare(ctx context.Context, etcd *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	for _, s := range r.fleet.Servers() {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}
	// The last reads fill the learners that are left, which the agents would do, too,
	// once the writers that were left behind have been given their time.
	if r.settle(ctx, "after the work", r.away) == nil {
		return nil
	}
	if err := r.tidy(ctx); err != nil {
		return err
	}
	b := r.settle(ctx, "after the last reads", func(b *books) []string {
		return append(b.restless(), idleLeases(ctx, etcd)...)
	})
	if b == nil {
		return nil
	}
	r.differAll(r.names.check())
	r.compareLogs(b)
	if err := r.compareAPI(ctx, b); err != nil {
		return err
	}
	return r.compareMedia(b)
}

// away lists the daemons that are not all there.
func (r *run) away(b *books) []string {
	out := b.away()
	for _, a := range r.agents() {
		if _, ok := b.daemons[a.ID]; !ok {
			out = append(out, "agent "+a.ID+" has not registered")
		}
	}
	return out
}

// tidy does what people would do in the end: no daemon drains, every log is read,
// and has a replica in the place of each that was given up.
func (r *run) tidy(ctx context.Context) error {
	c, err := r.newClient(r.o.Clients)
	if err != nil {
		return err
	}
	defer c.api.close()
	r.quiet(c)
	const rounds = 3 // another replica's learner may be in the way at first
	for range rounds {
		b, err := r.book.at(ctx)
		if err != nil {
			return err
		}
		c.heal(b)
		r.readAll(ctx, c)
		if b, err = r.book.at(ctx); err != nil || len(b.orphans()) == 0 {
			return err
		}
	}
	return nil
}

func (r *run) differAll(wrong []string) {
	for _, w := range wrong {
		r.differ("%s", w)
	}
}

// settle waits until nothing is unsettled any more, and returns the books then.
func (r *run) settle(ctx context.Context, when string, unsettled func(*books) []string) *books {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b, missing := r.book.until(ctx, unsettled)
	if b == nil {
		r.differ("not settled %s within %v: %s", when, patience, strings.Join(missing, "; "))
	}
	return b
}

// idleLeases lists leases that hold no key: somebody took them and did not give
// them back. They end by themselves after a while.
func idleLeases(ctx context.Context, etcd *clientv3.Client) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all, err := etcd.Leases(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var idle []string
	for _, l := range all.Leases {
		ttl, err := etcd.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		switch {
		case err != nil:
			idle = append(idle, err.Error())
		case ttl.TTL >= 0 && len(ttl.Keys) == 0 && ttl.GrantedTTL <= int64(leaseTTL/time.Second)*2:
			idle = append(idle, fmt.Sprintf("lease %x holds nothing", l.ID))
		}
	}
	return idle
}

// readAll opens every log that is there, with every replica, and reads it.
func (r *run) readAll(ctx context.Context, c *client) {
	b, err := r.book.at(ctx)
	if err != nil {
		r.differ("%v", err)
		return
	}
	for _, id := range sorted(b.logs) {
		h := r.history(id)
		if h == nil {
			r.differ("log %s (%s) is there, and nobody was told that it was made", id, b.logs[id].Name)
			continue
		}
		w := c.open(ctx, h, true)
		if w == nil {
			r.differ("log %s (%s) can't be opened at rest; refused: %s", id, h.name, &r.refusals)
			continue
		}
		if err := w.Settle(ctx); err != nil {
			r.differ("log %s (%s) does not settle: %v; waiting: %s", id, h.name, err, w.Waiting())
		}
		if err := w.AwaitReplaced(ctx); err != nil {
			r.differ("log %s (%s): replacement: %v", id, h.name, err)
		}
		c.close(w)
	}
}

// compareLogs compares which logs there are with what clients were told.
func (r *run) compareLogs(b *books) {
	r.mu.Lock()
	here := append([]*history(nil), r.here...)
	r.mu.Unlock()
	for _, h := range here {
		if _, ok := b.logs[h.id]; !ok {
			r.differ("log %s (%s) was made and not deleted, and is gone", h.id, h.name)
		}
	}
}

// compareAPI compares what every server shows with etcd.
func (r *run) compareAPI(ctx context.Context, b *books) error {
	for _, s := range r.fleet.Servers() {
		if err := r.compareServer(ctx, s.Name, s.URL, b); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) compareServer(ctx context.Context, name, base string, b *books) error {
	var status openapi.Status
	for { // until it has caught up
		body, err := get(ctx, base+"/v1/status")
		if err == nil {
			err = json.Unmarshal(body, &status)
		}
		if err == nil && status.View.Revision >= b.revision {
			break
		}
		if werr := wait(ctx, 50*time.Millisecond); werr != nil {
			return errors.Join(werr, err)
		}
	}
	var list openapi.DaemonList
	body, err := get(ctx, base+"/v1/daemons")
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	if err != nil {
		return fmt.Errorf("soak: daemons of %s: %w", name, err)
	}
	var reserved, capacity, quarantined int64
	for _, id := range sorted(b.daemons) {
		reserved += b.space[id].Reserved
		capacity += b.daemons[id].Capacity
		quarantined += b.daemons[id].QuarantinedBytes
	}
	if g := status.Bytes; g.Reserved != reserved || g.Condemned != 0 || g.Capacity != capacity || g.Quarantined != quarantined {
		r.differ("%s: status shows %+v; etcd has %d reserved, %d quarantined, %d capacity", name, g, reserved, quarantined, capacity)
	}
	if len(list.Items) != len(b.daemons) {
		r.differ("%s shows %d daemons, etcd has %d", name, len(list.Items), len(b.daemons))
	}
	for _, d := range list.Items {
		rec := b.daemons[d.DaemonID]
		free := max(0, min(rec.Capacity-b.space[d.DaemonID].Reserved-rec.QuarantinedBytes, b.live[d.DaemonID].Free))
		if rec.Draining {
			free = d.FreeBytes // it takes nothing anyway
		}
		if d.ReservedBytes != b.space[d.DaemonID].Reserved || d.FreeBytes != free || d.State == openapi.DaemonDown {
			r.differ("%s shows daemon %s %s with %d reserved and %d free; etcd has %d and %d",
				name, d.DaemonID, d.State, d.ReservedBytes, d.FreeBytes, b.space[d.DaemonID].Reserved, free)
		}
	}
	return nil
}

// compareMedia ends the agents and compares each pool with the records.
func (r *run) compareMedia(b *books) error {
	for _, a := range r.agents() {
		if err := a.Stop(); err != nil {
			return err
		}
	}
	for _, a := range r.agents() {
		pool, err := pmemlog.OpenFilePool(a.Pool)
		if err != nil {
			r.differ("pool of %s: %v", a.ID, err)
			continue
		}
		r.differAll(differPool(a.ID, b, pool.Replicas(), pool.Free()))
		if err := pool.Close(); err != nil {
			r.differ("pool of %s: %v", a.ID, err)
		}
	}
	return nil
}

// differPool compares the regions of a pool with the replicas that are recorded.
func differPool(daemon string, b *books, regions []pmemlog.Listed, space pmemlog.Space) []string {
	var wrong []string
	say := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("pool of %s: ", daemon)+fmt.Sprintf(format, args...))
	}
	type expected struct {
		log   string
		rec   logRecord
		state string
	}
	want := map[string]expected{}
	for id, l := range b.logs {
		for _, rep := range l.Replicas {
			if rep.Daemon == daemon {
				want[rep.ID] = expected{id, l, rep.State}
			}
		}
	}
	quarantined := map[string]bool{}
	for _, id := range b.daemons[daemon].Quarantined {
		quarantined[id] = true
	}
	var used int64
	for _, reg := range regions {
		used += reg.Bytes
		id := reg.Replica.String()
		e, ok := want[id]
		switch {
		case reg.Err != nil:
			say("region %s can't be used: %v", id, reg.Err)
		case !ok && !quarantined[id]:
			say("region %s of log %s, %d bytes, is in no record", id, reg.Log, reg.Bytes)
		case ok && (reg.Log.String() != e.log || reg.Bytes != e.rec.ReplicaBytes):
			say("region %s is of log %s with %d bytes, the record says log %s and %d", id, reg.Log, reg.Bytes, e.log, e.rec.ReplicaBytes)
		}
		delete(want, id)
	}
	for _, id := range sorted(want) {
		if want[id].state == "present" {
			say("replica %s of log %s (%s) is present in the record and in no region", id, want[id].log, want[id].rec.Name)
		}
	}
	if c := b.daemons[daemon].Capacity; space.Total != c || space.Free != c-used {
		say("it has %d bytes free of %d, and its regions take %d of %d", space.Free, space.Total, used, c)
	}
	return wrong
}
