package identity

import (
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestExpiryIsSaidInTime(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		validity, left time.Duration
		soon, past     bool
	}{
		"new":                    {365 * day, 365 * day, false, false},
		"a year, 30 days left":   {365 * day, 30 * day, false, false},
		"a year, less":           {365 * day, 30*day - 1, true, false},
		"a day, a quarter left":  {day, 6 * time.Hour, false, false},
		"a day, less":            {day, 6*time.Hour - 1, true, false},
		"ours, an hour":          {time.Hour + backdated, time.Hour, false, false},
		"ours, 14 minutes left":  {time.Hour + backdated, 14 * time.Minute, true, false},
		"the last moment":        {day, 1, true, false},
		"none":                   {day, 0, true, true},
		"long past":              {day, -365 * day, true, true},
		"ten years, 31 days":     {3650 * day, 31 * day, false, false},
		"ten years, its 29 days": {3650 * day, 29 * day, true, false},
	} {
		now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		cert := &x509.Certificate{NotBefore: now.Add(c.left - c.validity), NotAfter: now.Add(c.left)}
		if e := expiryOf(cert, now); e.Soon != c.soon || e.Past != c.past || !e.At.Equal(cert.NotAfter) {
			t.Errorf("%s: %+v, want soon %t, past %t", name, e, c.soon, c.past)
		}
	}
}

// TestExpiryIsWatched lets a certificate of 8 days grow old, and renews it.
func TestExpiryIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		a, root, err := NewAuthority("test", 100*day)
		if err != nil {
			t.Fatal(err)
		}
		p := newParty(t, root.Cert, issue(t, a, RoleDaemon, "d1", 8*day))
		var text logged
		own := p.load(slog.New(slog.NewTextHandler(&text, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); own.WatchExpiry(ctx) }()

		expect := func(after time.Duration, warnings, errors int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			said := text.String()
			if w, e := strings.Count(said, "level=WARN"), strings.Count(said, "level=ERROR"); w != warnings || e != errors {
				t.Fatalf("%d warnings and %d errors, want %d and %d:\n%s", w, e, warnings, errors, said)
			}
		}
		expect(5*day, 0, 0)
		if own.Expiry().Soon {
			t.Fatalf("with 3 of 8 days left it is to expire soon: %+v", own.Expiry())
		}
		expect(day+time.Hour, 1, 0)
		expect(day, 2, 0)
		expect(day, 2, 1)
		expect(day, 2, 2)
		if e := own.Expiry(); !e.Past {
			t.Fatalf("9 days after it was made: %+v", e)
		}
		renewed := issue(t, a, RoleDaemon, "d1", 60*day)
		p.write(p.files.Cert, renewed.Cert)
		p.write(p.files.Key, renewed.Key)
		expect(10*day, 2, 2)
		if said := text.String(); !strings.Contains(said, "certificate files read again") {
			t.Errorf("nobody said that the new files are in use:\n%s", said)
		}
		cancel()
		<-done
	})
}

func TestNothingToWatch(t *testing.T) {
	t.Parallel()
	_, root := newAuthority(t)
	p := newParty(t, root.Cert, PEM{})
	own, err := LoadClient(Files{CA: p.files.CA}, nil)
	if err != nil {
		t.Fatal(err)
	}
	own.WatchExpiry(t.Context()) // returns
	if e := own.Expiry(); e != (Expiry{}) {
		t.Errorf("without a certificate: %+v", e)
	}
}
