package store

import (
	"context"
	"fmt"
	"slices"

	caller "github.com/gravenio/graven/identity"
)

// Who calls comes in the context. A call without a principal is the program's
// own: the server puts one into every request that it lets through.

// callerName goes into request hashes, so that an answer is given again only to
// the one who got it first.
func callerName(ctx context.Context) string {
	p, _ := caller.In(ctx)
	return p.Name
}

// ownerOfNew is who a log belongs to that is made now.
func ownerOfNew(ctx context.Context) (name string, groups []string) {
	p, _ := caller.In(ctx)
	return p.Name, slices.Clone(p.Groups)
}

// mayOwn refuses who is neither the log's owner, nor in one of its groups, nor
// an admin. A log that nobody owns is the admins'.
func (l *logEntries) mayOwn(ctx context.Context) error {
	p, ok := caller.In(ctx)
	if !ok || l.rec.ownedBy(p) {
		return nil
	}
	return l.foreign(p)
}

func (l *logEntries) foreign(p caller.Principal) error {
	owner := "nobody, so only an admin may use it"
	if l.rec.Owner != "" {
		owner = fmt.Sprintf("%q", l.rec.Owner)
	}
	return fmt.Errorf("%w: log %s belongs to %s; %s is neither its owner nor in one of its groups %q",
		ErrForeignLog, l.rec.Name, owner, p, l.rec.Groups)
}

// ownedBy says whether the principal may do everything with the log.
func (l *logRecord) ownedBy(p caller.Principal) bool {
	switch {
	case p.Is(caller.RoleAdmin):
		return true
	case !p.Is(caller.RoleClient):
		return false
	}
	return l.Owner != "" && l.Owner == p.Name ||
		slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(l.Groups, g) })
}

// mayWrite refuses who may not be the log's writer: it takes an owner, or, to
// recover the log, a daemon with a replica of it.
func (s *Store) mayWrite(ctx context.Context, l *logEntries, recovering bool) error {
	p, ok := caller.In(ctx)
	if !ok || l.rec.ownedBy(p) {
		return nil
	}
	if !p.Is(caller.RoleDaemon) {
		return l.foreign(p)
	}
	if !recovering {
		return fmt.Errorf("%w: a daemon opens log %s only to recover it, and takes it from nobody", ErrForeignLog, l.rec.Name)
	}
	keys := make([]string, len(l.rec.Replicas))
	for i, r := range l.rec.Replicas {
		keys[i] = prefixDaemons + r.DaemonID
	}
	es, _, err := s.read(ctx, keys...)
	if err != nil {
		return err
	}
	for _, e := range es {
		if !e.exists() {
			continue
		}
		rec, err := decode[daemonRecord](e.key, e.value)
		if err != nil {
			return err
		}
		if rec.isBoundTo(p.Name) {
			return nil
		}
	}
	return fmt.Errorf("%w: no replica of log %s is on a daemon of %s", ErrForeignLog, l.rec.Name, p)
}

// recovering says whether the log's newest writer is one that recovers it.
func (l *logRecord) recovering() bool { return l.Writer != nil && l.Writer.Recovering }

// mayRenew is mayWrite by the view, for the log that has it and its writer. What
// it refuses is looked up in etcd.
func (v *View) mayRenew(ctx context.Context, w WriterRef) bool {
	p, ok := caller.In(ctx)
	if !ok {
		return true
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	l := v.t.find(w.Log)
	if l == nil || l.rec == nil {
		return false
	}
	return l.rec.ownedBy(p) || p.Is(caller.RoleDaemon) && l.rec.recovering() &&
		slices.ContainsFunc(l.rec.Replicas, func(r replicaRecord) bool {
			d := v.t.daemons[r.DaemonID]
			return d != nil && d.rec != nil && d.rec.isBoundTo(p.Name)
		})
}

func (d *daemonRecord) isBoundTo(name string) bool { return name != "" && d.Identity == name }

// boundName is the name that the daemon's ID is to be bound to, or an
// ErrForeignDaemon if it is bound to another one's. A server that asks nobody
// leaves it as it is.
func (d *daemonRecord) boundName(ctx context.Context, id string) (string, error) {
	p, ok := caller.In(ctx)
	if !ok || p.Via == caller.ViaNothing {
		return d.Identity, nil
	}
	if d.Identity != "" && d.Identity != p.Name {
		return "", &DaemonError{
			DaemonID: id, Err: ErrForeignDaemon,
			Detail: fmt.Sprintf("it is bound to the name %q, and %s asks; delete the daemon to give its ID away", d.Identity, p),
		}
	}
	return p.Name, nil
}

// heardAs refuses words of a daemon from anybody else. One that registered before
// it had a name is bound by its next registration.
func (d *daemonRecord) heardAs(ctx context.Context, id string) error {
	name, err := d.boundName(ctx, id)
	if err == nil && name != d.Identity {
		return &DaemonError{DaemonID: id, Detail: "it has registered without a name; register again", Err: ErrLeaseExpired}
	}
	return err
}

// mayHear is heardAs by the view; what it refuses is looked up in etcd.
func (v *View) mayHear(ctx context.Context, id string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.t.daemons[id]
	return d != nil && d.rec != nil && d.rec.heardAs(ctx, id) == nil
}
