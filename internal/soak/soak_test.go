package soak

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

const (
	log1 = "5d3c2f4e-8f5a-4b7e-9a55-0d7f5b0c9a11"
	rep1 = "00000000-0000-4000-8000-000000000001"
)

// good is a small etcd that adds up.
func good(t *testing.T) *books {
	t.Helper()
	b := newBooks()
	for key, value := range map[string]string{
		"daemons/d1":                  `{"capacity_bytes":1000,"pool_id":"p1"}`,
		"daemons/d2":                  `{"capacity_bytes":1000}`,
		"live/d1":                     `{"free_bytes":900}`,
		"live/d2":                     `{"free_bytes":900}`,
		"space/d1":                    `{"reserved_bytes":100}`,
		"space/d2":                    `{"reserved_bytes":170}`,
		"logs/" + log1:                `{"name":"l1","replica_bytes":100,"replicas":[{"replica_id":"` + rep1 + `","daemon_id":"d1","state":"present"},{"replica_id":"r2","daemon_id":"d2","state":"present"}]}`,
		"lognames/l1":                 `{"log_id":"` + log1 + `"}`,
		"condemned/d2/r3":             `{"log_id":"x","bytes":70}`,
		"operators/recover-1":         `{"kind":"recover","reason":"no-writer","state":"running","log_id":"x","daemon_id":"d1"}`,
		"operators/recover-2":         `{"kind":"replace","reason":"lost","state":"running","log_id":"y","daemon_id":"d2","to":"d1"}`,
		"operators/scrub-d1":          `{"kind":"scrub","reason":"due","state":"running"}`,
		"operators/replace-1":         `{"kind":"replace","reason":"requested","state":"running"}`,
		"operators/drain-1":           `{"kind":"drain","reason":"draining","state":"done"}`,
		"gone/d0":                     `{"pool_id":"p0","lost":true}`,
		"planner":                     `{"limits":{"cluster":2,"per_daemon":2}}`,
		"events/01":                   `{}`,
		"keys/grant":                  `{}`,
		"addresses/127.0.0.1:7071":    `{"daemon_id":"d1"}`,
		"pools/" + log1 + "-not-read": `{}`,
	} {
		if err := b.set(prefix+key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if wrong := b.audit(); len(wrong) != 0 {
		t.Fatalf("what adds up does not: %q", wrong)
	}
	return b
}

// Every way in which books can be wrong is found, and said so that a person can
// tell which.
func TestAuditFinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what  string
		set   [2]string
		gone  string
		wants string
	}{
		{"a byte lost", [2]string{"space/d1", `{"reserved_bytes":101}`}, "", "daemon d1: 101 bytes are reserved, its replicas and what is condemned on it are 100 (+1)"},
		{"a byte promised twice", [2]string{"space/d2", `{"reserved_bytes":169}`}, "", "(-1)"},
		{"condemned and forgotten", [2]string{}, "condemned/d2/r3", "daemon d2: 170 bytes"},
		{"no books", [2]string{}, "space/d1", "daemon d1 has no books"},
		{"no daemon", [2]string{}, "daemons/d1", "books without a daemon: d1"},
		{"too full", [2]string{"daemons/d1", `{"capacity_bytes":99}`}, "", "100 bytes are reserved of 99"},
		{"a name too many", [2]string{"lognames/l2", `{"log_id":"` + log1 + `"}`}, "", "name l2 leads to log"},
		{"a name too few", [2]string{}, "lognames/l1", "has no name"},
		{"a writer of nothing", [2]string{"writers/x", `{}`}, "", "log x has a writer and no record"},
		{"a replica nowhere", [2]string{}, "daemons/d2", "has a replica on d2, which is no daemon"},
		{"condemned nowhere", [2]string{"condemned/d9/r9", `{"log_id":"x","bytes":1}`}, "", "condemned on d9/r9, which is no daemon"},
		{"back from the dead", [2]string{"gone/d1", `{"pool_id":"p1","lost":true}`}, "", "daemon d1 was given up, and is back with pool p1"},
		{"an operator of nothing", [2]string{"operators/o1", `{"kind":"drain","state":"running","log_id":"` + log1 + `","learner_id":"r9"}`}, "", "operator o1 runs, and log"},
		{"a learner of nobody", [2]string{"logs/" + log1, `{"name":"l1","replica_bytes":100,"replicas":[{"replica_id":"r2","daemon_id":"d2","state":"learner","operator":"o9"}]}`}, "", "has learner r2, and its operator \"o9\""},
		{"more than the limit", [2]string{"planner", `{"limits":{"cluster":1}}`}, "", "2 planned operators run, and the limit is 1"},
		{"more than a daemon's limit", [2]string{"planner", `{"limits":{"cluster":9,"per_daemon":1}}`}, "", "daemon d1 works for 2 planned operators, and the limit is 1"},
		{"in two places", [2]string{"condemned/d1/" + rep1, `{"log_id":"x","bytes":0}`}, "", "is in two places"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			b := good(t)
			if c.set[0] != "" {
				if err := b.set(prefix+c.set[0], []byte(c.set[1])); err != nil {
					t.Fatal(err)
				}
			}
			if c.gone != "" {
				b.remove(prefix + c.gone)
			}
			if wrong := strings.Join(b.audit(), "\n"); !strings.Contains(wrong, c.wants) {
				t.Errorf("found %q, want %q", wrong, c.wants)
			}
		})
	}
}

func TestRestlessFinds(t *testing.T) {
	t.Parallel()
	b := good(t)
	b.remove(prefix + "live/d1")
	for key, value := range map[string]string{
		"writers/" + log1: `{}`,
		"live/d2":         `{"missing":["r2"]}`,
		"logs/" + log1:    `{"name":"l1","replicas":[{"replica_id":"r4","daemon_id":"d2","state":"learner"},{"replica_id":"r5","daemon_id":"d0"}]}`,
	} {
		if err := b.set(prefix+key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(b.restless(), "\n")
	for _, want := range []string{"condemned: d2/r3", "has a writer's lease", "has a learner on d2", "daemon d1 is down", "daemon d2 misses [r2]", "has a replica on d0, which was given up", "operator scrub-d1 runs"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

// A run that did nothing is told from one that did all, and a short one is asked
// for less.
func TestIdleRunsAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		length time.Duration
		wants  int
	}{{9 * time.Second, 1}, {10 * time.Second, 5}, {2 * time.Minute, 17}, {5 * time.Minute, 26}, {10 * time.Minute, 33}} {
		r := &run{o: Options{For: c.length}, book: newLedger(nil)}
		if got := r.idle(); len(got) != c.wants {
			t.Errorf("of %v without anything done: %d, want %d: %q", c.length, len(got), c.wants, got)
		}
		for _, f := range r.floors() {
			for _, what := range f.what {
				f.counts.add(what, 1)
			}
		}
		r.book.close(1)
		if got := r.idle(); len(got) != 0 {
			t.Errorf("of %v with all of it done: %q", c.length, got)
		}
	}
}

func TestHistoryFinds(t *testing.T) {
	t.Parallel()
	fresh := func() (*history, expectation) {
		h := newHistory(log1, "l1")
		for i, key := range []string{"a", "b", "c"} {
			h.try(key)
			if err := h.acknowledge(key, uint64(10*i)); err != nil {
				t.Fatal(err)
			}
		}
		h.try("d") // not acknowledged
		return h, h.expect()
	}
	all := []read{{"a", 0}, {"b", 10}, {"c", 20}, {"d", 30}}
	for _, c := range []struct {
		what  string
		from  uint64
		found []read
		wants string
	}{
		{"all", 0, all, ""},
		{"without the one that was never acknowledged", 0, all[:3], ""},
		{"one lost", 0, all[:2], `"c", acknowledged at LSN 20, is lost`},
		{"a hole", 0, []read{all[0], all[2]}, `"b", acknowledged at LSN 10, is lost`},
		{"trimmed by nobody", 10, all[1:], "nobody asked"},
		{"never written", 0, append(all[:3:3], read{"x", 30}), "never appended"},
		{"twice", 0, append(all[:3:3], read{"a", 30}), "read twice"},
		{"another place", 0, []read{all[0], {"b", 11}, all[2]}, "is at LSN 11 and was at 10"},
		{"out of order", 0, []read{all[0], all[2], all[1]}, "comes after"},
	} {
		t.Run(c.what, func(t *testing.T) {
			h, want := fresh()
			got := strings.Join(h.check(want, c.from, c.found), "\n")
			if c.wants == "" && got != "" || !strings.Contains(got, c.wants) {
				t.Errorf("found %q, want %q", got, c.wants)
			}
		})
	}
	// What was read once is committed.
	h, want := fresh()
	if wrong := h.check(want, 0, all); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if wrong := h.check(h.expect(), 0, all[:3]); len(wrong) != 1 {
		t.Errorf("a read record was lost: %q", wrong)
	}
	h.trim(20)
	if wrong := h.check(h.expect(), 20, all[2:]); len(wrong) > 0 {
		t.Errorf("after a trim: %q", wrong)
	}
}

func TestNamesFind(t *testing.T) {
	t.Parallel()
	create := func(id string) (nameInput, nameOutput) {
		return nameInput{call: callCreate, name: "n"}, nameOutput{ok: id != "", id: id}
	}
	on := func(call nameCall, id string, out nameOutput) (nameInput, nameOutput) {
		return nameInput{call: call, name: "n", id: id}, out
	}
	check := func(calls ...any) bool {
		var n names
		for i := 0; i+1 < len(calls); i += 2 { // one after the other
			n.calls = append(n.calls, porcupine.Operation{
				Input: calls[i], Call: int64(10 * i), Output: calls[i+1], Return: int64(10*i + 5),
			})
		}
		return len(n.check()) == 0
	}
	calls := func(steps ...func() (nameInput, nameOutput)) (out []any) {
		for _, s := range steps {
			in, o := s()
			out = append(out, in, o)
		}
		return out
	}
	made := func(id string) func() (nameInput, nameOutput) {
		return func() (nameInput, nameOutput) { return create(id) }
	}
	opened := func(id string, epoch uint64) func() (nameInput, nameOutput) {
		return func() (nameInput, nameOutput) {
			return on(callOpen, id, nameOutput{ok: epoch > 0, epoch: epoch})
		}
	}
	deleted := func(id string, out nameOutput) func() (nameInput, nameOutput) {
		return func() (nameInput, nameOutput) { return on(callDelete, id, out) }
	}
	yes, lost := nameOutput{ok: true}, nameOutput{repeated: true}
	for _, c := range []struct {
		what  string
		calls []any
		want  bool
	}{
		{"a life", calls(made("1"), made(""), opened("1", 1), opened("1", 3), deleted("1", yes), opened("1", 0), made("2")), true},
		{"an answer lost", calls(made("1"), deleted("1", lost), made("2")), true},
		{"made twice", calls(made("1"), made("2")), false},
		{"deleted twice", calls(made("1"), deleted("1", yes), deleted("1", yes)), false},
		{"an epoch again", calls(made("1"), opened("1", 2), opened("1", 2)), false},
		{"opened after its end", calls(made("1"), deleted("1", yes), opened("1", 1)), false},
		{"gone by itself", calls(made("1"), opened("1", 0)), false},
		{"not to be deleted", calls(made("1"), deleted("1", nameOutput{})), false},
	} {
		if got := check(c.calls...); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

func TestPoolsAreCompared(t *testing.T) {
	t.Parallel()
	b := good(t)
	region := func(replica string, bytes int64) pmemlog.Listed {
		return pmemlog.Listed{Log: id(t, log1), Replica: id(t, replica), Bytes: bytes}
	}
	for _, c := range []struct {
		what    string
		regions []pmemlog.Listed
		free    int64
		wants   string
	}{
		{"as recorded", []pmemlog.Listed{region(rep1, 100)}, 900, ""},
		{"a region lost", nil, 1000, "is present in the record and in no region"},
		{"a region too many", []pmemlog.Listed{region(rep1, 100), region("00000000-0000-4000-8000-000000000002", 10)}, 890, "is in no record"},
		{"of another size", []pmemlog.Listed{region(rep1, 99)}, 901, "with 99 bytes"},
		{"bytes unaccounted for", []pmemlog.Listed{region(rep1, 100)}, 899, "has 899 bytes free of 1000"},
	} {
		got := strings.Join(differPool("d1", b, c.regions, pmemlog.Space{Total: 1000, Free: c.free}), "\n")
		if c.wants == "" && got != "" || !strings.Contains(got, c.wants) {
			t.Errorf("%s: found %q, want %q", c.what, got, c.wants)
		}
	}
}

func id(t *testing.T, text string) format.ID {
	t.Helper()
	u, err := uuid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return format.ID(u)
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 20, 5000} {
		p := payload("3.14", size)
		if key, err := keyOf(p); err != nil || key != "3.14" || len(p) < size {
			t.Errorf("size %d: %q, %v", size, key, err)
		}
		p[len(p)-1] ^= 1
		if _, err := keyOf(p); err == nil {
			t.Errorf("size %d: a flipped bit was not seen", size)
		}
	}
}
