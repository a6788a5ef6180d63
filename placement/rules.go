package placement

import "slices"

// domain is one failure domain. A daemon that stands for itself must not be
// taken for another one's label of the same text.
type domain struct {
	name string
	self bool
}

// domainOf returns the daemon's failure domain, and false where it has none.
func domainOf(d *Daemon, fd FailureDomain) (domain, bool) {
	if name := d.Labels[string(fd)]; name != "" {
		return domain{name: name}, true
	}
	if fd == Host {
		return domain{name: d.ID, self: true}, true
	}
	return domain{}, false
}

func hasDomain(d *Daemon, fd FailureDomain) bool {
	_, ok := domainOf(d, fd)
	return ok
}

func mediaFits(r *Request, media string) bool {
	if r.Media == "" {
		return media != MediaVolatile
	}
	return r.Media == media
}

func labelsFit(r *Request, labels map[string]string) bool {
	for k, v := range r.Labels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// removedBy returns the first rule that removes the daemon, or "".
func removedBy(d *Daemon, r *Request) Rule {
	switch {
	case !d.Up:
		return RuleDown
	case d.Draining:
		return RuleDraining
	case d.ReadOnly:
		return RuleReadOnly
	case slices.Contains(r.Exclude, d.ID):
		return RuleExclude
	case !mediaFits(r, d.Media):
		return RuleMedia
	case r.Transport != "" && !slices.Contains(d.Transports, r.Transport):
		return RuleTransport
	case !labelsFit(r, d.Labels):
		return RuleLabel
	case !hasDomain(d, r.FailureDomain):
		return RuleDomainLabel
	case d.FreeBytes <= 0 || d.FreeBytes < r.ReplicaBytes:
		return RuleSpace
	}
	return ""
}

// ruleOrder is the order of removedBy; read-only.
var ruleOrder = [...]Rule{
	RuleDown, RuleDraining, RuleReadOnly, RuleExclude, RuleMedia,
	RuleTransport, RuleLabel, RuleDomainLabel, RuleSpace,
}

// eligible returns the slots of all daemons that no rule removes.
func (x *Index) eligible(r *Request) []int {
	var slots []int
	for s := range x.daemons {
		if d := &x.daemons[s]; d.ID != "" && removedBy(d, r) == "" {
			slots = append(slots, s)
		}
	}
	return slots
}

// explain counts what each rule removed and names the one at which too few
// daemons were left.
func (x *Index) explain(r *Request) *NoPlacementError {
	e := &NoPlacementError{Replicas: r.Replicas, Daemons: len(x.slot), Removed: make(map[Rule]int)}
	domains, taken := make(map[domain]struct{}), x.taken(r)
	for s := range x.daemons {
		d := &x.daemons[s]
		if d.ID == "" {
			continue
		}
		if rule := removedBy(d, r); rule != "" {
			e.Removed[rule]++
			continue
		}
		e.Eligible++
		if dom, _ := domainOf(d, r.FailureDomain); !slices.Contains(taken, dom) {
			domains[dom] = struct{}{}
		}
	}
	e.Domains = len(domains)
	e.Rule = e.failedRule()
	if e.Rule == RuleFailureDomain {
		e.Removed[RuleFailureDomain] = e.Eligible - e.Domains
	}
	return e
}

func (e *NoPlacementError) failedRule() Rule {
	left := e.Daemons
	if left < e.Replicas {
		return RuleDaemons
	}
	for _, rule := range ruleOrder {
		if left -= e.Removed[rule]; left < e.Replicas {
			return rule
		}
	}
	return RuleFailureDomain
}

// Share says whether two daemons lie in one failure domain; the domain is Host if
// empty. A daemon without that domain shares none.
func Share(a, b *Daemon, fd FailureDomain) bool {
	if fd == "" {
		fd = Host
	}
	x, known := domainOf(a, fd)
	y, other := domainOf(b, fd)
	return known && other && x == y
}
