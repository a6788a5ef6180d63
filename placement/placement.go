package placement

import (
	"fmt"
	"sort"
	"strings"
)

// FailureDomain is what may fail as one.
type FailureDomain string

// The failure domains, each named like the label that holds it.
const (
	Host FailureDomain = "host"
	Rack FailureDomain = "rack"
	Zone FailureDomain = "zone"
)

// MediaVolatile is handed out only when a request asks for it by name.
const MediaVolatile = "volatile"

// MaxReplicas is the most replicas that a request may ask for.
const MaxReplicas = 7

// Daemon is what placement needs to know of a daemon.
type Daemon struct {
	ID         string
	Labels     map[string]string
	Media      string
	Transports []string
	// FreeBytes is what may still be promised; 0 <= FreeBytes <= CapacityBytes.
	FreeBytes     int64
	CapacityBytes int64
	Up            bool
	Draining      bool
	// ReadOnly says that its pool takes no writes any more.
	ReadOnly bool
}

// Request says what is wanted.
type Request struct {
	// Replicas is 1 to MaxReplicas.
	Replicas int
	// ReplicaBytes is what each replica takes from its daemon's FreeBytes.
	ReplicaBytes int64
	// FailureDomain is Host if empty.
	FailureDomain FailureDomain
	// Transport must be among the daemon's; empty takes any.
	Transport string
	// Media must be the daemon's; empty takes any but MediaVolatile.
	Media string
	// Labels must all be there with these values.
	Labels map[string]string
	// Exclude lists daemon IDs that must not be chosen.
	Exclude []string
	// Beside lists daemons that hold replicas already: their failure domains
	// are taken, and neither they nor others in those domains are chosen.
	Beside []string
}

// Rule is one reason for which a daemon is not eligible, or a request fails.
type Rule string

// The rules, in the order in which they are applied: a daemon counts for the
// first one that removes it.
const (
	RuleDown        Rule = "down"
	RuleDraining    Rule = "draining"
	RuleReadOnly    Rule = "read-only"
	RuleExclude     Rule = "exclude"
	RuleMedia       Rule = "media"
	RuleTransport   Rule = "transport"
	RuleLabel       Rule = "label"
	RuleDomainLabel Rule = "failure-domain-label"
	RuleSpace       Rule = "space"
	// RuleFailureDomain fails a request whose eligible daemons lie in too few
	// failure domains that are not taken; its count is how many eligible
	// daemons could not be used for that.
	RuleFailureDomain Rule = "failure-domain"
	// RuleDaemons fails a request for more replicas than there are daemons.
	RuleDaemons Rule = "daemons"
	// RuleUnknown refuses a daemon that is not in the index.
	RuleUnknown Rule = "unknown"
)

// NoPlacementError says why a request cannot be met.
type NoPlacementError struct {
	// Rule is the one at which fewer daemons (or domains) than replicas were
	// left.
	Rule Rule
	// Replicas were asked for, Daemons are known, Eligible are left after all
	// rules about single daemons, Domains is how many failure domains those
	// lie in.
	Replicas, Daemons, Eligible, Domains int
	// Removed counts, per rule, the daemons that it removed; rules that removed
	// none are absent.
	Removed map[Rule]int
}

func (e *NoPlacementError) Error() string {
	rules := make([]string, 0, len(e.Removed))
	for r, n := range e.Removed {
		rules = append(rules, fmt.Sprintf("%s removed %d", r, n))
	}
	sort.Strings(rules)
	s := fmt.Sprintf("placement: %d replicas cannot be placed on %d daemons: rule %s",
		e.Replicas, e.Daemons, e.Rule)
	if len(rules) > 0 {
		s += " (" + strings.Join(rules, ", ") + ")"
	}
	return s
}

// RequestError names the field of a request that breaks a rule.
type RequestError struct {
	Field string
	Rule  string
}

func (e *RequestError) Error() string { return "placement: " + e.Field + ": " + e.Rule }

func (r Request) validate() error {
	switch {
	case r.Replicas < 1 || r.Replicas > MaxReplicas:
		return &RequestError{"replicas", fmt.Sprintf("must be 1 to %d, not %d", MaxReplicas, r.Replicas)}
	case r.ReplicaBytes < 0:
		return &RequestError{"replica_size", "must not be negative"}
	case len(r.Beside) > MaxReplicas:
		return &RequestError{"beside", fmt.Sprintf("must be at most %d, not %d", MaxReplicas, len(r.Beside))}
	}
	switch r.FailureDomain {
	case Host, Rack, Zone:
		return nil
	default:
		return &RequestError{"failure_domain", fmt.Sprintf("must be host, rack or zone, not %q", r.FailureDomain)}
	}
}

func (r Request) withDefaults() Request {
	if r.FailureDomain == "" {
		r.FailureDomain = Host
	}
	return r
}
