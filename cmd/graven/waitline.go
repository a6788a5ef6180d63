package main

import "io"

// waitLine is the line in which a command that waits shows how far things are.
type waitLine struct {
	app   *app
	shown string // what it says
}

// progress shows a line: over the last one on a terminal, else only if it says
// something new.
func (w *waitLine) progress(text string) {
	if text == w.shown {
		return
	}
	w.shown = text
	if isTerminal(w.app.err) {
		_, _ = io.WriteString(w.app.err, "\r\x1b[K"+text) // nobody's result
		return
	}
	note(w.app.err, "%s", text)
}

// ended leaves the terminal's cursor on a line of its own.
func (w *waitLine) ended(err error) error {
	if w.shown != "" && isTerminal(w.app.err) {
		note(w.app.err, "")
	}
	return err
}
