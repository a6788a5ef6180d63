package main

import (
	"fmt"
	"strings"

	"github.com/gravenio/graven/openapi"
)

// journalText is an entry in a line: about whom, what, why, and who asked.
func journalText(j *openapi.JournalEntry) string {
	return "journal " + journalSubject(j) + " " + string(j.Kind) + ": " + journalDetail(j)
}

// journalSubject names the log or the daemon that an entry is about.
func journalSubject(j *openapi.JournalEntry) string {
	switch {
	case j.LogName != "":
		return "log " + j.LogName
	case j.DaemonID != "":
		return "daemon " + j.DaemonID
	}
	return "cluster"
}

func journalDetail(j *openapi.JournalEntry) string {
	text := j.Detail
	for _, g := range j.GivenUp {
		text += fmt.Sprintf("; gave up replica %s: %s", g.ReplicaID, g.Detail)
	}
	if who := journalWho(j); who != "" {
		text += " (" + who + ")"
	}
	return text
}

// journalWho says who asked for it, as far as it is known.
func journalWho(j *openapi.JournalEntry) string {
	var parts []string
	if j.Who != "" {
		parts = append(parts, "by "+j.Who)
	}
	if j.From != "" {
		parts = append(parts, "from "+j.From)
	}
	return strings.Join(parts, " ")
}
