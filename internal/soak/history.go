package soak

import (
	"fmt"
	"sync"
)

// history is what clients did to one log's records, and what each read of it must
// therefore show.
type history struct {
	mu      sync.Mutex
	name    string
	id      string
	tried   map[string]bool   // payload keys that were submitted
	known   map[string]uint64 // by payload key: the LSN under which it was acknowledged, or read
	trimmed uint64            // the highest LSN that a trim was asked for
}

func newHistory(id, name string) *history {
	return &history{id: id, name: name, tried: map[string]bool{}, known: map[string]uint64{}}
}

// try notes that a record is about to be submitted.
func (h *history) try(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried[key] = true
}

// acknowledge notes that a record was acknowledged. From now on every open finds
// it.
func (h *history) acknowledge(key string, lsn uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.learn(key, lsn)
}

func (h *history) learn(key string, lsn uint64) error {
	if at, ok := h.known[key]; ok && at != lsn {
		return fmt.Errorf("log %s (%s): record %q is at LSN %d and was at %d", h.id, h.name, key, lsn, at)
	}
	h.known[key] = lsn
	return nil
}

// trim notes that a trim is about to be asked for.
func (h *history) trim(lsn uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trimmed = max(h.trimmed, lsn)
}

// expectation is what a reader must find: it is taken before the open.
type expectation struct {
	known map[string]uint64
}

func (h *history) expect() expectation {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := expectation{known: make(map[string]uint64, len(h.known))}
	for k, lsn := range h.known {
		e.known[k] = lsn
	}
	return e
}

// read is one record as a reader found it.
type read struct {
	key string
	lsn uint64
}

// check compares what a reader found, from its trim LSN on, with what it must
// find. What was read is known from then on: a read record is a committed one.
func (h *history) check(e expectation, from uint64, found []read) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var wrong []string
	say := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("log %s (%s): ", h.id, h.name)+fmt.Sprintf(format, args...))
	}
	if from > h.trimmed {
		say("begins at LSN %d, but nobody asked for a trim beyond %d", from, h.trimmed)
	}
	at, last := make(map[string]uint64, len(found)), from
	for i, r := range found {
		if _, twice := at[r.key]; twice {
			say("record %q was read twice, at LSN %d and %d", r.key, at[r.key], r.lsn)
		}
		if i > 0 && r.lsn <= last {
			say("record %q at LSN %d comes after one at %d", r.key, r.lsn, last)
		}
		if !h.tried[r.key] {
			say("record %q at LSN %d was never appended to this log", r.key, r.lsn)
		}
		at[r.key], last = r.lsn, r.lsn
		if err := h.learn(r.key, r.lsn); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	lost := 0
	for key, lsn := range e.known {
		if _, ok := at[key]; ok || lsn < from {
			continue
		}
		if lost++; lost <= 3 {
			say("record %q, acknowledged at LSN %d, is lost; the log has %d records from LSN %d to %d", key, lsn, len(found), from, last)
		}
	}
	if lost > 3 {
		say("%d acknowledged records are lost in all", lost)
	}
	return wrong
}
