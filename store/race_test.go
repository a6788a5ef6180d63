package store

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// race is one transaction's side of a race: it is decided, the other side
// happens, and then it commits.
type race struct {
	// action is the transaction as the table of guards in doc.go calls it.
	action string
	name   string
	// guard is the table whose comparison stands against this race alone. Taken
	// away, the race must be lost, and noticed. "" where several stand together.
	guard string
	// play sets the stage, calls through shared.edges with p.in's context, and
	// returns which promise was broken.
	play func(t *testing.T, p *plan) error
}

func races() []race {
	return slices.Concat(daemonRaces(), bookRaces(), createRaces(), writerRaces(), setRaces(), adoptRaces(), deleteRaces(), clusterRaces(),
		lifeRaces(), keyRaces(), lostRaces(), operatorRaces(), leaderRaces())
}

func (r *race) title() string {
	return strings.ReplaceAll(r.action+" "+r.name, " ", "-")
}

// TestRaces plays each race at the transaction's edge: between what it was
// decided on and its commit, the other side happens. And it holds the table of
// guards to what the transactions really compare.
func TestRaces(t *testing.T) {
	t.Parallel()
	compared := make(map[string]map[string]bool)
	all := races()
	plans := make([]*plan, len(all))
	t.Run("play", func(t *testing.T) {
		for i, r := range all {
			plans[i] = &plan{}
			t.Run(r.title(), func(t *testing.T) {
				t.Parallel()
				if err := r.play(t, plans[i]); err != nil {
					t.Error(err)
				}
				plans[i].happened(t)
			})
		}
	})
	for i, r := range all {
		if compared[r.action] == nil {
			compared[r.action] = make(map[string]bool)
		}
		for table := range plans[i].compared {
			compared[r.action][table] = true
		}
	}
	for action, tables := range compared {
		for table := range tables {
			if !slices.ContainsFunc(all, func(r race) bool { return r.action == action && r.guard == table }) {
				t.Errorf("%s compares %s, and no race shows what for", action, table)
			}
		}
	}
}

// TestMutation takes the comparisons away one at a time, on their way to etcd,
// and expects the race that each stands against to be lost.
func TestMutation(t *testing.T) {
	t.Parallel()
	for _, r := range races() {
		if r.guard == "" {
			continue
		}
		t.Run(r.title()+"-without-"+r.guard, func(t *testing.T) {
			t.Parallel()
			broken := r.play(t, &plan{without: r.guard})
			if broken == nil {
				t.Fatalf("%s without the comparison of %s: nothing was noticed", r.action, r.guard)
			}
			t.Logf("without it: %v", broken)
		})
	}
}

// TestEveryGuardHasARace holds doc.go's table against the races.
func TestEveryGuardHasARace(t *testing.T) {
	t.Parallel()
	rows := guards(t)
	all := races()
	for _, row := range rows {
		if !slices.ContainsFunc(all, func(r race) bool { return r.action == row }) {
			t.Errorf("doc.go's table has %q, and no race is played for it", row)
		}
	}
	for _, r := range all {
		if !slices.Contains(rows, r.action) {
			t.Errorf("a race is played for %q, which doc.go's table does not have", r.action)
		}
	}
}

// guards are the transactions of doc.go's table.
func guards(t *testing.T) (rows []string) {
	t.Helper()
	src, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(src), "//\ttransaction         compares\n")
	if !ok {
		t.Fatal("doc.go has no table of guards")
	}
	table, _, _ = strings.Cut(table, "//\n")
	for _, m := range regexp.MustCompile(`(?m)^//\t(\S+(?: \S+)*)  +\S`).FindAllStringSubmatch(table, -1) {
		rows = append(rows, m[1])
	}
	return rows
}

// reg registers a daemon through the other server.
func reg(ctx context.Context, r RegisterRequest) error {
	_, err := shared.store.Register(ctx, r)
	return err
}

// beat is a heartbeat through the other server.
func beat(ctx context.Context, r RegisterRequest, edit func(h *HeartbeatRequest)) error {
	h := HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: r.Incarnation, Free: r.Free}
	if edit != nil {
		edit(&h)
	}
	_, err := shared.store.Heartbeat(ctx, h)
	return err
}

// dies is a lease that runs out, as the other side of a race.
func dies(t *testing.T, key string) func() error {
	return func() error {
		expire(t, shared.store, key)
		return nil
	}
}

// diesUnmarked is dies for a daemon that no server marks as down when it has
// gone, because its record says so already: nothing but its sign of life changes.
func diesUnmarked(t *testing.T, id string) func() error {
	t.Helper()
	key := prefixDaemons + id
	rec, _ := recordOf[daemonRecord](t, key)
	rec.DownSince = time.Now().UTC()
	if err := byHand(t.Context(), key, *rec); err != nil {
		t.Fatal(err)
	}
	return dies(t, prefixLive+id)
}
