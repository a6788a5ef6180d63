package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// replicaNotes is a slog.Handler that tells a person what a writer does about
// the log's replicas, and why it can't.
type replicaNotes struct {
	out   io.Writer
	names *names

	mu      sync.Mutex
	last    string // the same is not said twice in a row
	refusal bool   // the last thing said is that a replica can't be replaced
	muted   bool
}

// Enabled implements slog.Handler.
func (n *replicaNotes) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// WithAttrs implements slog.Handler. What sessions say of themselves is below Info.
func (n *replicaNotes) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup implements slog.Handler.
func (n *replicaNotes) WithGroup(string) slog.Handler { return n }

// Handle implements slog.Handler: it keeps to what concerns a replica.
func (n *replicaNotes) Handle(_ context.Context, rec slog.Record) error {
	attrs := map[string]string{}
	rec.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	learner, daemon := attrs["learner"], attrs["daemon"]
	if learner != "" && daemon != "" {
		n.names.add(learner, daemon)
	}
	text := rec.Message
	switch {
	case learner != "":
		text += ": replica " + learner
	case attrs["replica"] != "":
		text += ": replica " + attrs["replica"]
	default:
		return nil
	}
	if other := attrs["replaces"]; other != "" {
		text += " for replica " + other
	}
	if why := attrs["err"]; why != "" {
		text += ": " + why
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusal = rec.Level >= slog.LevelWarn
	if n.muted || text == n.last {
		return nil
	}
	n.last = text
	_, err := fmt.Fprintf(n.out, "note: %s\n", n.names.explain(text))
	return err
}

// refused says whether the last that was heard is a refusal.
func (n *replicaNotes) refused() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refusal
}

// mute ends it: what a writer says at its end is nobody's news.
func (n *replicaNotes) mute() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.muted = true
}
