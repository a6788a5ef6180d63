package placement

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func up(id string, free int64, labels map[string]string) Daemon {
	return Daemon{
		ID: id, Labels: labels, Media: "file", Transports: []string{"tcp"},
		FreeBytes: free, CapacityBytes: 1000, Up: true,
	}
}

func TestNoPlacementNamesTheRule(t *testing.T) {
	t.Parallel()
	with := func(id string, f func(*Daemon)) Daemon {
		d := up(id, 500, map[string]string{"host": "h" + id, "rack": "r" + id})
		f(&d)
		return d
	}
	same := func(*Daemon) {}
	down := func(d *Daemon) { d.Up = false }
	draining := func(d *Daemon) { d.Draining = true }
	readOnly := func(d *Daemon) { d.ReadOnly = true }
	volatile := func(d *Daemon) { d.Media = MediaVolatile }
	full := func(d *Daemon) { d.FreeBytes = 99 }
	noLabels := func(d *Daemon) { d.Labels = nil }
	oneHost := func(d *Daemon) { d.Labels = map[string]string{"host": "h"} }
	base := Request{Replicas: 2, ReplicaBytes: 100}
	edit := func(f func(*Request)) Request { r := base; f(&r); return r }

	for _, tc := range []struct {
		name    string
		daemons []Daemon
		req     Request
		want    NoPlacementError
	}{
		{"no daemons", nil, base, NoPlacementError{Rule: RuleDaemons}},
		{"too few", []Daemon{with("a", same)}, base, NoPlacementError{Rule: RuleDaemons, Eligible: 1, Domains: 1}},
		{
			"down",
			[]Daemon{with("a", same), with("b", down), with("c", down)},
			base,
			NoPlacementError{Rule: RuleDown, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleDown: 2}},
		},
		{
			"the rule that crosses, not the largest",
			[]Daemon{with("a", same), with("b", down), with("c", down), with("d", full)},
			base,
			NoPlacementError{Rule: RuleSpace, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleDown: 2, RuleSpace: 1}},
		},
		{
			"draining",
			[]Daemon{with("a", same), with("b", draining)},
			base,
			NoPlacementError{Rule: RuleDraining, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleDraining: 1}},
		},
		{
			"read-only",
			[]Daemon{with("a", same), with("b", readOnly), with("c", func(d *Daemon) { draining(d); readOnly(d) })},
			base,
			NoPlacementError{Rule: RuleReadOnly, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleReadOnly: 1, RuleDraining: 1}},
		},
		{
			"excluded",
			[]Daemon{with("a", same), with("b", same)},
			edit(func(r *Request) { r.Exclude = []string{"b", "zz"} }),
			NoPlacementError{Rule: RuleExclude, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleExclude: 1}},
		},
		{
			"volatile is not handed out unasked",
			[]Daemon{with("a", same), with("b", volatile)},
			base,
			NoPlacementError{Rule: RuleMedia, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleMedia: 1}},
		},
		{
			"transport",
			[]Daemon{with("a", same), with("b", same)},
			edit(func(r *Request) { r.Transport = "verbs" }),
			NoPlacementError{Rule: RuleTransport, Removed: map[Rule]int{RuleTransport: 2}},
		},
		{
			"labels",
			[]Daemon{with("a", same), with("b", same)},
			edit(func(r *Request) { r.Labels = map[string]string{"host": "ha"} }),
			NoPlacementError{Rule: RuleLabel, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleLabel: 1}},
		},
		{
			"a rack must be labelled",
			[]Daemon{with("a", same), with("b", noLabels)},
			edit(func(r *Request) { r.FailureDomain = Rack }),
			NoPlacementError{Rule: RuleDomainLabel, Eligible: 1, Domains: 1, Removed: map[Rule]int{RuleDomainLabel: 1}},
		},
		{
			"one host",
			[]Daemon{with("a", oneHost), with("b", oneHost), with("c", oneHost)},
			base,
			NoPlacementError{Rule: RuleFailureDomain, Eligible: 3, Domains: 1, Removed: map[Rule]int{RuleFailureDomain: 2}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Place(tc.daemons, tc.req, 1)
			var e *NoPlacementError
			if !errors.As(err, &e) {
				t.Fatalf("Place = %v, %v; want a NoPlacementError", got, err)
			}
			w := tc.want
			if e.Rule != w.Rule || e.Eligible != w.Eligible || e.Domains != w.Domains ||
				e.Daemons != len(tc.daemons) || e.Replicas != 2 || !maps.Equal(e.Removed, w.Removed) {
				t.Errorf("got %+v\nwant %+v", e, w)
			}
		})
	}
}

func TestUnlabelledHostsStandForThemselves(t *testing.T) {
	t.Parallel()
	ids, err := Place([]Daemon{up("a", 10, nil), up("b", 10, nil)}, Request{Replicas: 2}, 7)
	if err != nil || len(ids) != 2 {
		t.Fatalf("Place = %v, %v", ids, err)
	}
	// A label that reads like another daemon's ID is still another domain.
	ids, err = Place([]Daemon{up("a", 10, nil), up("b", 10, map[string]string{"host": "a"})}, Request{Replicas: 2}, 7)
	if err != nil || len(ids) != 2 {
		t.Fatalf("Place = %v, %v", ids, err)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		field string
		req   Request
	}{
		{"replicas", Request{}},
		{"replicas", Request{Replicas: 8}},
		{"replica_size", Request{Replicas: 1, ReplicaBytes: -1}},
		{"failure_domain", Request{Replicas: 1, FailureDomain: "planet"}},
		{"beside", Request{Replicas: 1, Beside: make([]string, 8)}},
	} {
		_, err := Place(nil, tc.req, 0)
		var e *RequestError
		if !errors.As(err, &e) || e.Field != tc.field {
			t.Errorf("%+v: %v, want an error about %s", tc.req, err, tc.field)
		}
	}
}

// One more replica beside two that stay, in place of one on c: c's host may be
// used again, not c itself, and never the hosts of the others.
func TestBesideKeepsOutOfTakenDomains(t *testing.T) {
	t.Parallel()
	host := func(id, host string) Daemon { return up(id, 500, map[string]string{"host": host}) }
	x := NewIndex()
	for _, d := range []Daemon{host("a", "h1"), host("b", "h2"), host("c", "h3"), host("a2", "h1"), host("b2", "h2")} {
		x.Put(d)
	}
	r := Request{Replicas: 1, ReplicaBytes: 100, Exclude: []string{"c"}, Beside: []string{"a", "b", "gone"}}
	_, err := x.Place(r, 1)
	var none *NoPlacementError
	if !errors.As(err, &none) || none.Rule != RuleFailureDomain || none.Eligible != 4 || none.Domains != 0 ||
		none.Removed[RuleFailureDomain] != 4 || none.Removed[RuleExclude] != 1 {
		t.Errorf("with every host taken: %v", err)
	}
	x.Put(host("c2", "h3"))
	for seed := range uint64(20) {
		if ids, err := x.Place(r, seed); err != nil || !slices.Equal(ids, []string{"c2"}) {
			t.Fatalf("Place = %v, %v, want c2", ids, err)
		}
	}
	for id, want := range map[string]*RefusedError{
		"c2": nil, "c": {Rule: RuleExclude}, "b2": {Rule: RuleFailureDomain, Shares: "b"},
		"a": {Rule: RuleFailureDomain, Shares: "a"}, "z": {Rule: RuleUnknown},
	} {
		err := x.Check(r, id)
		var got *RefusedError
		if errors.As(err, &got) != (want != nil) || want != nil && (got.Rule != want.Rule || got.Shares != want.Shares || got.DaemonID != id) {
			t.Errorf("Check(%s) = %v, want %+v", id, err, want)
		}
	}
}

func genDaemon(t *rapid.T, i int) Daemon {
	labels := map[string]string{}
	for _, k := range []string{"host", "rack", "zone"} {
		if n := rapid.IntRange(0, 4).Draw(t, k); n > 0 {
			labels[k] = fmt.Sprint(k, n)
		}
	}
	return Daemon{
		ID: fmt.Sprint("d", i), Labels: labels,
		Media:         rapid.SampledFrom([]string{"file", "pmem", "volatile"}).Draw(t, "media"),
		Transports:    rapid.SampledFrom([][]string{{"tcp"}, {"tcp", "verbs"}}).Draw(t, "transports"),
		FreeBytes:     rapid.Int64Range(0, 1<<40).Draw(t, "free"),
		CapacityBytes: 1 << 40,
		Up:            rapid.IntRange(0, 5).Draw(t, "up") > 0,
		Draining:      rapid.IntRange(0, 5).Draw(t, "draining") == 0,
		ReadOnly:      rapid.IntRange(0, 5).Draw(t, "read-only") == 0,
	}
}

func genRequest(t *rapid.T) Request {
	r := Request{
		Replicas:      rapid.IntRange(1, MaxReplicas).Draw(t, "replicas"),
		ReplicaBytes:  rapid.Int64Range(0, 1<<39).Draw(t, "bytes"),
		FailureDomain: rapid.SampledFrom([]FailureDomain{"", Host, Rack, Zone}).Draw(t, "domain"),
		Transport:     rapid.SampledFrom([]string{"", "tcp", "verbs"}).Draw(t, "transport"),
		Media:         rapid.SampledFrom([]string{"", "file", "pmem", "volatile"}).Draw(t, "media"),
		Exclude:       rapid.SliceOfN(rapid.SampledFrom([]string{"d0", "d1", "d2", "d3"}), 0, 3).Draw(t, "exclude"),
	}
	if rapid.Bool().Draw(t, "is beside") {
		r.Beside = rapid.SliceOfN(rapid.SampledFrom([]string{"d2", "d4", "d5", "d6"}), 1, 3).Draw(t, "beside")
	}
	if rapid.IntRange(0, 3).Draw(t, "select") == 0 {
		r.Labels = map[string]string{"zone": "zone1"}
	}
	return r
}

// TestPlaceKeepsTheRules states the rules a second time, plainly, and compares.
func TestPlaceKeepsTheRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		byID := map[string]Daemon{}
		x := NewIndex()
		for i := range rapid.IntRange(0, 30).Draw(t, "n") {
			d := genDaemon(t, i)
			x.Put(genDaemon(t, i)) // replaced at once: nothing of it may stay
			x.Put(d)
			byID[d.ID] = d
		}
		if id := "d2"; rapid.Bool().Draw(t, "delete") {
			x.Delete(id)
			delete(byID, id)
		}
		r, seed := genRequest(t), rapid.Uint64().Draw(t, "seed")
		fd := r.FailureDomain
		if fd == "" {
			fd = Host
		}
		dom := func(d Daemon) string {
			if l, ok := d.Labels[string(fd)]; ok {
				return "label " + l
			}
			if fd == Host {
				return "self " + d.ID
			}
			return ""
		}
		ok := func(d Daemon) bool {
			return d.Up && !d.Draining && !d.ReadOnly && !slices.Contains(r.Exclude, d.ID) &&
				(r.Media == d.Media || r.Media == "" && d.Media != "volatile") &&
				(r.Transport == "" || slices.Contains(d.Transports, r.Transport)) &&
				(r.Labels == nil || d.Labels["zone"] == "zone1") &&
				dom(d) != "" && d.FreeBytes > 0 && d.FreeBytes >= r.ReplicaBytes
		}
		used := map[string]bool{}
		for _, id := range r.Beside {
			if d, known := byID[id]; known && dom(d) != "" {
				used[dom(d)] = true
			}
		}
		possible := map[string]bool{}
		for _, d := range byID {
			if ok(d) && !used[dom(d)] {
				possible[dom(d)] = true
			}
			if err := x.Check(r, d.ID); (err == nil) != (ok(d) && !used[dom(d)]) {
				t.Fatalf("Check(%+v): %v", d, err)
			}
		}

		ids, err := x.Place(r, seed)
		again, err2 := x.Place(r, seed)
		if !slices.Equal(ids, again) || (err == nil) != (err2 == nil) {
			t.Fatalf("same seed, two answers: %v, %v", ids, again)
		}
		if wantErr := len(possible) < r.Replicas; wantErr != (err != nil) {
			t.Fatalf("%d domains for %d replicas: %v", len(possible), r.Replicas, err)
		}
		if err != nil {
			checkCounts(t, err, len(byID))
			return
		}
		taken := len(used)
		for _, id := range ids {
			d, known := byID[id]
			if !known || !ok(d) || used[dom(d)] {
				t.Fatalf("%s must not be in %v", id, ids)
			}
			used[dom(d)] = true
		}
		if len(used)-taken != r.Replicas {
			t.Fatalf("%d daemons for %d replicas", len(used)-taken, r.Replicas)
		}
	})
}

func checkCounts(t *rapid.T, err error, daemons int) {
	var e *NoPlacementError
	if !errors.As(err, &e) {
		t.Fatalf("%v is not a NoPlacementError", err)
	}
	sum := e.Eligible
	for rule, n := range e.Removed {
		if rule != RuleFailureDomain {
			sum += n
		}
	}
	if sum != daemons || e.Daemons != daemons {
		t.Fatalf("counts do not add up to %d daemons: %+v", daemons, e)
	}
	if e.Rule != RuleDaemons && e.Removed[e.Rule] == 0 {
		t.Fatalf("the rule that failed removed nothing: %+v", e)
	}
}

// TestFillEvensOut compares with always taking the emptiest daemons, which is
// as even as it gets (and would herd).
func TestFillEvensOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const capacity, piece = 1 << 30, 8 << 20
		n := rapid.IntRange(5, 20).Draw(t, "n")
		start := make([]int64, n)
		var total int64
		for i := range start {
			start[i] = rapid.Int64Range(capacity/2, capacity).Draw(t, "free")
			total += start[i]
		}
		seed := rapid.Uint64().Draw(t, "seed")
		rounds := int(total / piece / 3 * 2 / 3) // two thirds of all there is

		x := NewIndex()
		free := slices.Clone(start)
		put := func(i int) {
			x.Put(Daemon{ID: fmt.Sprint(i), Media: "file", FreeBytes: free[i], CapacityBytes: capacity, Up: true})
		}
		for i := range free {
			put(i)
		}
		ideal := slices.Clone(start)
		for round := range rounds {
			ids, err := x.Place(Request{Replicas: 3, ReplicaBytes: piece}, seed+uint64(round))
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				i, _ := strconv.Atoi(id)
				free[i] -= piece
				put(i)
			}
			slices.Sort(ideal)
			for i := range 3 {
				ideal[n-1-i] -= piece
			}
		}
		spread := func(s []int64) int64 { return slices.Max(s) - slices.Min(s) }
		if spread(free) > spread(ideal)+capacity/6 {
			t.Fatalf("after %d rounds: %v, ideal %v", rounds, free, ideal)
		}
	})
}

func TestFirstPlaceRotates(t *testing.T) {
	t.Parallel()
	daemons := []Daemon{up("a", 900, nil), up("b", 500, nil), up("c", 100, nil)}
	first := map[string]int{}
	for seed := range uint64(300) {
		ids, err := Place(daemons, Request{Replicas: 3}, seed)
		if err != nil {
			t.Fatal(err)
		}
		first[ids[0]]++
	}
	for _, d := range daemons {
		if first[d.ID] < 60 {
			t.Errorf("%s is first in %d of 300 choices: %v", d.ID, first[d.ID], first)
		}
	}
}

func TestFenwickFindsWhatIsSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var f fenwick
		plain := make([]uint64, 100)
		for range rapid.IntRange(1, 50).Draw(t, "sets") {
			s, w := rapid.IntRange(0, 99).Draw(t, "slot"), rapid.Uint64Range(0, 9).Draw(t, "weight")
			f.set(s, w)
			plain[s] = w
		}
		var point uint64
		for s, w := range plain {
			for range w {
				if got := f.find(point); got != s {
					t.Fatalf("find(%d) = %d, want %d", point, got, s)
				}
				point++
			}
		}
		if point != f.total {
			t.Fatalf("total %d, want %d", f.total, point)
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		x := NewIndex()
		for i := range n {
			x.Put(Daemon{
				ID: fmt.Sprint("d", i), Labels: map[string]string{"host": fmt.Sprint("h", i), "rack": fmt.Sprint("r", i/20), "zone": fmt.Sprint("z", i%3)},
				Media: "file", Transports: []string{"tcp"}, FreeBytes: int64(1+i%97) << 30, CapacityBytes: 100 << 30, Up: true,
			})
		}
		for _, r := range []Request{
			{Replicas: 3, ReplicaBytes: 1 << 28},
			{Replicas: 3, ReplicaBytes: 1 << 28, FailureDomain: Zone},
			{Replicas: 3, ReplicaBytes: 1 << 28, Labels: map[string]string{"rack": "r1"}},
		} {
			name := string(r.withDefaults().FailureDomain)
			if r.Labels != nil {
				name = "one rack only"
			}
			b.Run(fmt.Sprintf("daemons=%d/%s", n, name), func(b *testing.B) {
				for i := range b.N {
					if _, err := x.Place(r, uint64(i)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
