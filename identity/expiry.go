package identity

import (
	"context"
	"crypto/x509"
	"time"
)

const (
	// soonAtMost is when a certificate of long validity is said to expire soon: time
	// enough for people to renew it who are told on a Friday.
	soonAtMost = 30 * 24 * time.Hour
	// soonPart of its validity is left when one of short validity is said to: those are
	// renewed by machines, mostly when a third is left.
	soonPart = 4

	expiryLook  = time.Minute    // between two looks: files may change at any time
	expiryAgain = 24 * time.Hour // between two warnings of the same
)

// Expiry is when a party's certificate stops being valid, and whether somebody should
// know.
type Expiry struct {
	At   time.Time
	Soon bool // less than a quarter of its validity is left, and less than 30 days; so also once it is past
	Past bool // it has expired
}

// Expiry is that of the party's own certificate; zero without one. The files are
// looked at again.
func (t *TLS) Expiry() Expiry {
	m := t.current()
	if m.cert == nil {
		return Expiry{}
	}
	return expiryOf(m.cert.Leaf, t.now())
}

func expiryOf(c *x509.Certificate, now time.Time) Expiry {
	validity := c.NotAfter.Sub(c.NotBefore)
	if validity > backdated { // it may be one of ours, which nobody had before it was made
		validity -= backdated
	}
	left := c.NotAfter.Sub(now)
	return Expiry{At: c.NotAfter, Soon: left < min(validity/soonPart, soonAtMost), Past: left <= 0}
}

// WatchExpiry says in the log when the party's own certificate is about to expire and
// when it has, and again each day, until ctx is done. Without a certificate it returns
// at once.
func (t *TLS) WatchExpiry(ctx context.Context) {
	if t.current().cert == nil {
		return
	}
	tick := time.NewTicker(expiryLook)
	defer tick.Stop()
	var said Expiry
	var when time.Time
	for {
		if is := t.Expiry(); is != said || t.now().Sub(when) >= expiryAgain {
			t.sayExpiry(is)
			said, when = is, t.now()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *TLS) sayExpiry(e Expiry) {
	switch {
	case e.Past:
		t.log.Error("certificate has expired, and others refuse it: issue a new one into the same files, nothing needs to be restarted", "certificate", t.files.Cert, "valid_until", e.At)
	case e.Soon:
		t.log.Warn("certificate is about to expire: issue a new one into the same files, nothing needs to be restarted", "certificate", t.files.Cert, "valid_until", e.At)
	}
}
