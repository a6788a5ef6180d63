package placement

import (
	"fmt"
	"slices"
)

// RefusedError says which rule a daemon breaks that was asked for by its ID.
type RefusedError struct {
	DaemonID string
	Rule     Rule
	// Shares is the daemon whose failure domain it lies in, for
	// RuleFailureDomain.
	Shares string
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("placement: daemon %s cannot take the replica: rule %s", e.DaemonID, e.Rule)
	switch e.Shares {
	case "":
		return s
	case e.DaemonID:
		return s + " (it holds another replica)"
	}
	return s + fmt.Sprintf(" (it shares one with %s, which holds another replica)", e.Shares)
}

// Check holds one daemon to the rules by which Place would choose it for one
// replica of the request. The error is a *RequestError or a *RefusedError.
func (x *Index) Check(r Request, id string) error {
	r = r.withDefaults()
	if err := r.validate(); err != nil {
		return err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	s, known := x.slot[id]
	if !known {
		return &RefusedError{DaemonID: id, Rule: RuleUnknown}
	}
	d := &x.daemons[s]
	if rule := removedBy(d, &r); rule != "" {
		return &RefusedError{DaemonID: id, Rule: rule}
	}
	if other := x.sharing(d, &r); other != "" {
		return &RefusedError{DaemonID: id, Rule: RuleFailureDomain, Shares: other}
	}
	return nil
}

// sharing names the daemon of Beside whose failure domain d lies in, or "".
func (x *Index) sharing(d *Daemon, r *Request) string {
	dom, _ := domainOf(d, r.FailureDomain)
	i := slices.IndexFunc(r.Beside, func(id string) bool {
		s, known := x.slot[id]
		if !known {
			return false
		}
		other, ok := domainOf(&x.daemons[s], r.FailureDomain)
		return ok && other == dom
	})
	if i < 0 {
		return ""
	}
	return r.Beside[i]
}
