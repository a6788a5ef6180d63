package store

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravenio/graven/grant"
)

const someKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func claimsIn(t *testing.T, s *Store, token string) grant.Claims {
	t.Helper()
	keys, err := grant.ParseKeys(s.GrantKeys())
	if err != nil {
		t.Fatal(err)
	}
	c, err := grant.Verify(token, keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A grant names the key that the client said when it opened the log; a renewal
// may name another one, and says nothing to one who has another nonce.
func TestGrantsNameTheClientsKey(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	a := open(t, s, l.Name, func(r *OpenLogRequest) { r.ClientKey = someKey })
	if c := claimsIn(t, s, a.Grant); c.ClientKey != someKey || c.Rights != grant.RightWrite || c.Period == 0 {
		t.Errorf("opened with %+v", c)
	}
	w := ref(a)
	w.Nonce = a.Nonce
	for _, key := range []string{"", strings.Repeat("ab", 32)} {
		w.ClientKey = key
		got, err := s.Renew(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		want := key
		if key == "" {
			want = someKey
		}
		if c := claimsIn(t, s, got.Grant); c.ClientKey != want || c.Epoch != a.Epoch || c.Nonce != a.Nonce {
			t.Errorf("renewed for %q: %+v", key, c)
		}
	}
	w.Nonce = "0000000000000000"
	if got, err := s.Renew(t.Context(), w); err == nil && got.Grant != "" {
		t.Error("a grant for one who has another nonce")
	}
	next := open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true })
	if c := claimsIn(t, s, next.Grant); c.ClientKey != "" {
		t.Errorf("the key of the writer before is in %+v", c)
	}
	read, err := s.GrantRead(t.Context(), l.Name, someKey)
	if err != nil || read.GoodFor != s.opts.GrantPeriod {
		t.Fatalf("%+v, %v", read, err)
	}
	if c := claimsIn(t, s, read.Grant); c.Rights != grant.RightRead || c.Epoch != 0 || c.ClientKey != someKey || len(c.Replicas) != 3 {
		t.Errorf("to read: %+v", c)
	}
}

func TestBadClientKeys(t *testing.T) {
	t.Parallel()
	s := shared.store
	l := makeLog(t, s)
	rev := etcdRevision(t, s)
	for _, key := range []string{"x", strings.ToUpper(someKey), someKey[1:], someKey + "0"} {
		if _, err := s.OpenLog(t.Context(), OpenLogRequest{Log: l.Name, Host: "h", ClientKey: key}); !errors.Is(err, ErrInvalid) {
			t.Errorf("open with %q: %v", key, err)
		}
		if _, err := s.Renew(t.Context(), WriterRef{Log: l.Name, ClientKey: key}); !errors.Is(err, ErrInvalid) {
			t.Errorf("renew with %q: %v", key, err)
		}
		if _, err := s.GrantRead(t.Context(), l.Name, key); !errors.Is(err, ErrInvalid) {
			t.Errorf("read with %q: %v", key, err)
		}
	}
	if _, err := s.GrantRead(t.Context(), "nobody", someKey); !errors.Is(err, ErrNotFound) {
		t.Errorf("a log that is not there: %v", err)
	}
	if after, _ := s.View().Log(l.LogID); after.Epoch != 0 {
		t.Errorf("opened in epoch %d, at revision %d", after.Epoch, rev)
	}
}

// rotating has an etcd of its own, since all daemons of one take part.
func rotating(t *testing.T) *Store {
	t.Helper()
	return startOwn(t, own(t, t.TempDir()), Options{})
}

func states(r *KeyRing) []KeyState {
	var out []KeyState
	for _, k := range r.Keys {
		out = append(out, k.State)
	}
	return out
}

// A new key signs when the last live daemon has told that it keeps it, not
// before; and nobody waits for those that are away.
func TestAKeySignsOnceAllKeepIt(t *testing.T) {
	t.Parallel()
	s := rotating(t)
	one, two, gone := daemon(t, s), daemon(t, s), daemon(t, s)
	expire(t, s, prefixLive+gone.DaemonID)
	for range 2 { // asking again makes no other key
		r, err := s.RotateKeys(t.Context())
		if err != nil || !slices.Equal(states(r), []KeyState{KeySigning, KeyPublished}) ||
			!slices.Equal(r.Waiting, []string{one.DaemonID, two.DaemonID}) {
			t.Fatalf("published: %+v, %v", r, err)
		}
	}
	ring, err := s.KeyRing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := open(t, s, makeLog(t, s).Name).Grant // on daemons that know of it by registering
	tell := func(r RegisterRequest, version uint64) *HeartbeatAnswer {
		t.Helper()
		a, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: r.DaemonID, Incarnation: 1, Free: r.Free, KeysVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if now, err := s.KeyRing(t.Context()); err != nil || len(now.Waiting) != len(registered(s)) {
		t.Fatalf("a daemon is believed to keep keys that it was only told of: %+v, %v", now, err)
	}
	if a := tell(one, 1); len(a.Grants.Keys) != 2 || a.Grants.KeysVersion != ring.KeysVersion {
		t.Fatalf("a daemon that has older keys hears %+v", a.Grants)
	}
	if a := tell(one, ring.KeysVersion); a.Grants.Keys != nil {
		t.Fatalf("a daemon that has these keys hears %+v", a.Grants)
	}
	for _, id := range registered(s) {
		if id != two.DaemonID {
			tell(RegisterRequest{DaemonID: id, Free: 1 << 30}, ring.KeysVersion)
		}
	}
	if now, err := s.KeyRing(t.Context()); err != nil || !slices.Equal(now.Waiting, []string{two.DaemonID}) || now.Keys[1].State != KeyPublished {
		t.Fatalf("it signs while %s lacks it: %+v, %v", two.DaemonID, now, err)
	}
	tell(two, ring.KeysVersion)
	now, err := s.KeyRing(t.Context())
	if err != nil || !slices.Equal(states(now), []KeyState{KeyVerifying, KeySigning}) || len(now.Waiting) != 0 {
		t.Fatalf("all keep it: %+v, %v", now, err)
	}
	if raw, err := s.readRing(t.Context()); err != nil || raw.Keys[0].Seed != nil || raw.Keys[1].Seed == nil {
		t.Error("etcd has the private half of a key that does not sign, or none of the one that does")
	}
	claimsIn(t, s, before) // is still good
	retireAndRefuse(t, s, now, before)
}

func registered(s *Store) []string {
	var ids []string
	all, _ := s.View().Daemons()
	for _, d := range all {
		if d.State == DaemonUp {
			ids = append(ids, d.DaemonID)
		}
	}
	return ids
}

func retireAndRefuse(t *testing.T, s *Store, now *KeyRing, before string) {
	t.Helper()
	var busy *KeyError
	if _, err := s.RetireKey(t.Context(), now.Keys[1].KeyID); !errors.Is(err, ErrKeyInUse) || !errors.As(err, &busy) {
		t.Errorf("the signing key was retired: %v", err)
	}
	if _, err := s.RetireKey(t.Context(), "0000000000000000"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	for range 2 {
		if r, err := s.RetireKey(t.Context(), now.Keys[0].KeyID); err != nil || !slices.Equal(states(r), []KeyState{KeyRetired, KeySigning}) {
			t.Fatalf("retired: %+v, %v", r, err)
		}
	}
	keys, err := grant.ParseKeys(s.GrantKeys())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := grant.Verify(before, keys); !errors.Is(err, grant.ErrUnknownKey) {
		t.Errorf("a grant of a retired key: %v", err)
	}
}

// What was written before there were several keys is taken over as it is, and a
// server of that time refuses what comes after.
func TestTheOnlyKeyIsCarriedOver(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	if _, err := e.Client.Put(t.Context(), keyGrantKey, encode(keyRecord{version: current(), Seed: seed})); err != nil {
		t.Fatal(err)
	}
	s := startOwn(t, e, Options{})
	old, err := grant.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.KeyRing(t.Context())
	if err != nil || len(r.Keys) != 1 || r.Keys[0].KeyID != old.ID() || r.Keys[0].State != KeySigning {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = s.RotateKeys(t.Context()); err != nil || !slices.Equal(states(r), []KeyState{KeyVerifying, KeySigning}) {
		t.Fatalf("without a daemon to wait for: %+v, %v", r, err)
	}
	es, _, err := s.read(t.Context(), keyGrantKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode[keyRecord](keyGrantKey, es[0].value); err == nil {
		t.Error("a server that knows one key reads the ring")
	}
}

// Nobody's clock says when a grant is too old: a period ends when a server has
// seen it last long enough, once for all of them.
func TestPeriodsGoOn(t *testing.T) {
	t.Parallel()
	e := own(t, t.TempDir())
	s := startOwn(t, e, Options{GrantPeriod: 50 * time.Millisecond})
	startOwn(t, e, Options{GrantPeriod: 50 * time.Millisecond}) // sees the same ones, and would end them, too
	l := makeLog(t, s)
	old := claimsIn(t, s, open(t, s, l.Name).Grant)
	d := daemon(t, s)
	var now uint64
	eventually(t, "two periods have gone", func() bool {
		a, err := s.Heartbeat(t.Context(), HeartbeatRequest{DaemonID: d.DaemonID, Incarnation: 1, Free: d.Free})
		if err != nil {
			t.Fatal(err)
		}
		now = a.Grants.Period
		return now > old.Period+1
	})
	if err := old.CheckFresh(now); !errors.Is(err, grant.ErrExpired) {
		t.Errorf("a grant of period %d in period %d: %v", old.Period, now, err)
	}
	if c := claimsIn(t, s, open(t, s, l.Name, func(r *OpenLogRequest) { r.Takeover = true }).Grant); c.CheckFresh(now) != nil {
		t.Errorf("a new grant is of period %d, now is %d", c.Period, now)
	}
	resp, err := s.client.Get(t.Context(), keyPeriod)
	if err != nil {
		t.Fatal(err)
	}
	p, err := decode[periodRecord](keyPeriod, resp.Kvs[0].Value)
	if writes := resp.Kvs[0].Version; err != nil || uint64(writes) != p.Period {
		t.Errorf("%d writes have made period %d: %v", writes, p.Period, err)
	}
}

// Keys are bounded: the oldest retired one makes room, and one that still counts
// does not.
func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	r := freshRing()
	for len(r.Keys) < MaxKeys {
		if err := r.publish(0); err != nil {
			t.Fatal(err)
		}
		r.promote(0)
	}
	if err := r.publish(0); !errors.Is(err, ErrKeyInUse) {
		t.Fatalf("key number %d: %v", MaxKeys+1, err)
	}
	oldest := r.Keys[0].ID
	if changed, err := r.retire(oldest, 0); err != nil || !changed {
		t.Fatal(err)
	}
	if err := r.publish(3); err != nil || len(r.Keys) != MaxKeys || r.find(oldest) != nil || r.KeysVersion != 3<<lifeShift {
		t.Errorf("%d keys of version %d, %v", len(r.Keys), r.KeysVersion, err)
	}
}

// FuzzRing: whatever is in etcd, no panic; what is read has one key that signs.
func FuzzRing(f *testing.F) {
	good, err := json.Marshal(freshRing())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(encode(keyRecord{version: current(), Seed: make([]byte, 32)})))
	f.Add([]byte(`{"v":2,"keys":[{"state":"signing"}]}`))
	f.Add([]byte(`{"v":1,"seed":"AA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRing(keyGrantKey, b)
		if err != nil {
			return
		}
		if r.in(KeySigning) == nil {
			t.Error("no key signs")
		}
		r.public()
		_, _ = r.signer() // its seed may be wrong, which is an error and no panic
	})
}
