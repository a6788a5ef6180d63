package soak

import (
	"fmt"
	"time"
)

// floor is what a soak must have done to prove anything, if it worked for at least
// that long. The times are such that chance, or a slow machine, does not come to
// nothing in them: what is chosen once in some seconds is asked for after minutes.
type floor struct {
	after  time.Duration
	counts *counts
	what   []string
}

func (r *run) floors() []floor {
	return []floor{
		{10 * time.Second, &r.done, []string{"create", "open", "append", "close"}},
		{2 * time.Minute, &r.done, []string{"delete", "takeover", "records read", "replace", "trim", "pause", "resume", "drain"}},
		{2 * time.Minute, &r.kills, []string{"etcd leader chosen", "agent killed", "server killed", "etcd killed"}},
		{5 * time.Minute, &r.done, []string{"drained", "abandon", "cancel"}},
		{5 * time.Minute, &r.kills, []string{
			"agent hung", "agent stopped", "server hung", "server stopped", "etcd hung", "etcd stopped",
		}},
		{10 * time.Minute, &r.done, []string{"rm", "rm lost", "return refused"}},
		{10 * time.Minute, &r.book.operators, []string{
			"drain draining done", "replace down done", "replace requested done", "scrub due done",
		}},
	}
}

// idle lists what never happened in the time that the clients worked.
func (r *run) idle() []string {
	var out []string
	for _, f := range r.floors() {
		for _, what := range f.what {
			if r.o.For >= f.after && f.counts.of(what) == 0 {
				out = append(out, fmt.Sprintf("in %v of work there was not one %q: the soak proves nothing about it", r.o.For, what))
			}
		}
	}
	if _, revisions := r.book.result(); revisions == 0 {
		out = append(out, "no revision of etcd was audited")
	}
	return out
}
