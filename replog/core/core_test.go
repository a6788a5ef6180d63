package core

import (
	"errors"
	"strings"
	"testing"

	"github.com/gravenio/graven/pmemlog/format"
)

// everywhere cuts at each multiple of 64.
func everywhere(from, to, most uint64) uint64 {
	return max(min(to, from+most), min(to, from+format.Align)) / format.Align * format.Align
}

func valid() Config {
	return Config{
		Term:     format.Fence{Epoch: 1, Nonce: 1},
		Replicas: []Replica{{ID: format.ID{1}}, {ID: format.ID{2}}, {ID: format.ID{3}}},
		// The usual two of three.
		AckQuorum: 2, Capacity: 1024, SetVersion: 1, Cut: everywhere,
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(*Config)
		want string
	}{
		"no replicas":       {func(c *Config) { c.Replicas = nil }, "0 replicas: must be 1 to 7"},
		"too many replicas": {func(c *Config) { c.Replicas = make([]Replica, 8) }, "8 replicas: must be 1 to 7"},
		"quorum too low":    {func(c *Config) { c.AckQuorum = 1 }, "ack quorum 1 of 3 replicas: must be 2 to 3"},
		"quorum too high":   {func(c *Config) { c.AckQuorum = 4 }, "ack quorum 4 of 3 replicas: must be 2 to 3"},
		"half is no quorum": {func(c *Config) { c.Replicas = c.Replicas[:2]; c.AckQuorum = 1 }, "ack quorum 1 of 2 replicas: must be 2 to 2"},
		"no ring":           {func(c *Config) { c.Capacity = 0 }, "capacity of 0 bytes"},
		"crooked ring":      {func(c *Config) { c.Capacity = 1000 }, "must be a multiple of 64"},
		"no epoch":          {func(c *Config) { c.Term.Epoch = 0 }, "epoch 0"},
		"no Cut":            {func(c *Config) { c.Cut = nil }, "Cut is required"},
		"window":            {func(c *Config) { c.Window = -1 }, "window -1: must be at least 1"},
	} {
		cfg := valid()
		c.harm(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	for n := 1; n <= 7; n++ {
		cfg := valid()
		cfg.Replicas = make([]Replica, n)
		cfg.AckQuorum = n/2 + 1
		if _, err := New(cfg); err != nil {
			t.Errorf("majority of %d: %v", n, err)
		}
	}
}

// opened returns an open core of present replicas, all of them members.
func opened(t *testing.T, capacity uint64) *Core {
	t.Helper()
	cfg := valid()
	cfg.Capacity = capacity
	for i := range cfg.Replicas {
		cfg.Replicas[i].State = Present
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	empty := format.Report{Pairs: []format.Pair{{Known: true}}, Capacity: capacity}
	for i := range 3 {
		c.Connected(Peer{i, 1})
		c.Reported(Peer{i, 1}, empty)
	}
	c.Loaded(Peer{0, 1}, format.ScanResult{Pairs: empty.Pairs})
	for i := range 3 {
		c.Sealed(Peer{i, 1})
	}
	if c.Phase() != Open {
		t.Fatalf("the core is %v", c.Phase())
	}
	c.Effects(nil)
	return c
}

// TestRemembersBoundedTrimPoints: a replica that lags behind every trim point
// that is remembered gets none of them, and the memory does not grow.
func TestRemembersBoundedTrimPoints(t *testing.T) {
	t.Parallel()
	c := opened(t, 64<<10)
	const records = maxTrims + 8
	for range records {
		if err := c.Admit(64); err != nil {
			t.Fatal(err)
		}
		c.Appended(c.Tail() + 64)
	}
	for i := range 2 {
		for c.replicas[i].durable < c.Tail() {
			c.Flushed(Peer{i, 1}, c.replicas[i].sent)
		}
	}
	c.Flushed(Peer{2, 1}, 64)
	for lsn := uint64(128); lsn <= c.Commit(); lsn += 64 {
		if err := c.Trim(format.TrimPoint{LSN: lsn, Epoch: 1, CRC: uint32(lsn)}); err != nil {
			t.Fatal(err)
		}
		if len(c.trims) > maxTrims {
			t.Fatalf("%d trim points are remembered", len(c.trims))
		}
	}
	for _, e := range c.Effects(nil) {
		if e.Kind == Trim && e.Peer.Index == 2 {
			t.Fatalf("r2 holds 64 bytes and is trimmed to %d", e.Trim.LSN)
		}
	}
	c.Flushed(Peer{2, 1}, 128) // all that it was sent; 128 was forgotten
	for _, e := range c.Effects(nil) {
		if e.Kind == Trim {
			t.Fatalf("%v is trimmed to %d", e.Peer, e.Trim.LSN)
		}
	}
	for c.replicas[2].durable < c.Tail() {
		c.Flushed(Peer{2, 1}, c.replicas[2].sent)
	}
	last := uint64(0)
	for _, e := range c.Effects(nil) {
		if e.Kind == Trim && e.Peer.Index == 2 {
			last = e.Trim.LSN
			c.Trimmed(e.Peer, last)
		}
	}
	if last == 0 {
		t.Fatal("r2 has caught up and was trimmed to nothing")
	}
}

// TestChangeLeavesEffectsAlone: what was handed to the driver before the set
// changes says what it said, whenever the driver gets to it.
func TestChangeLeavesEffectsAlone(t *testing.T) {
	t.Parallel()
	c := opened(t, 64<<10)
	empty := format.Report{Pairs: []format.Pair{{Known: true}}, Capacity: 64 << 10}
	learner := format.ID{9}
	i, err := c.Replace(Replacement{Learner: learner, Replaces: c.replicas[1].ID})
	if err != nil {
		t.Fatal(err)
	}
	seal := func(p Peer) Effect { // the one that the replica is asked to take
		c.Connected(p)
		c.Reported(p, empty)
		c.Prepared(p)
		for _, e := range c.Effects(nil) {
			if e.Kind == Seal && e.Peer == p {
				return e
			}
		}
		t.Fatalf("%v is not sealed in", p)
		return Effect{}
	}
	seal(Peer{i, 1})
	c.Sealed(Peer{i, 1})
	if !c.Joint() {
		t.Fatal("the learner is not promoted")
	}
	c.Disconnected(Peer{2, 1}, errors.New("cut"))
	late := seal(Peer{2, 2})
	before := c.SetVersion()
	c.Promoted(learner, before+1)
	seals := late.Seal.Seals
	if v := seals[len(seals)-1].SetVersion; c.SetVersion() != before+1 || v != before {
		t.Errorf("the seal with the set %v names version %d, not %d", late.Seal.Set, v, before)
	}
}

// TestReportsThatMakeNoSense: a replica is asked anew instead of being believed.
func TestReportsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, rep := range map[string]format.Report{
		"tail is no boundary":      {Tail: 100},
		"trim is no boundary":      {Tail: 128, Trim: format.TrimPoint{LSN: 63}},
		"tail before trim":         {Tail: 64, Trim: format.TrimPoint{LSN: 128}},
		"holds more than the ring": {Tail: 2048},
		"epoch beyond the tail":    {Tail: 64, Pairs: []format.Pair{{First: 128}}},
		"epochs out of order":      {Tail: 64, Pairs: []format.Pair{{First: 64}, {First: 0}}},
	} {
		c, err := New(valid())
		if err != nil {
			t.Fatal(err)
		}
		c.Connected(Peer{0, 1})
		c.Effects(nil)
		c.Reported(Peer{0, 1}, rep)
		got := c.Effects(nil)
		if len(got) != 1 || got[0].Kind != Cut || c.Phase() != Recovering {
			t.Errorf("%s: effects %+v, %v", name, got, c.Phase())
		}
	}
}

// TestNewSessionOfTheChosen: a newer session ends the load of the one before,
// whatever the driver has said about that.
func TestNewSessionOfTheChosen(t *testing.T) {
	t.Parallel()
	cfg := valid()
	cfg.Replicas, cfg.AckQuorum = cfg.Replicas[:1], 1
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rep := format.Report{Tail: 64, Pairs: []format.Pair{{Known: true}}}
	c.Connected(Peer{0, 1})
	c.Reported(Peer{0, 1}, rep)
	c.Connected(Peer{0, 2})
	if c.Phase() != Recovering {
		t.Fatalf("the core is %v, and nobody loads", c.Phase())
	}
	c.Effects(nil)
	c.Reported(Peer{0, 2}, rep)
	if got := c.Effects(nil); len(got) != 1 || got[0].Kind != Load || got[0].Peer.Session != 2 {
		t.Fatalf("effects %+v", got)
	}
}

func TestStatesAndErrorsInWords(t *testing.T) {
	t.Parallel()
	if Allocated.String() != "allocated" || Present.String() != "present" {
		t.Error(Allocated, Present)
	}
	err := error(&FencedError{By: format.Fence{Epoch: 7}})
	if !errors.Is(err, ErrFenced) || errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "epoch 7") {
		t.Error(err)
	}
	c := opened(t, 1024)
	if w := c.Waiting(); w != "" {
		t.Errorf("all work, and it waits for %q", w)
	}
}
