package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// show prints an answer: the API's body with -o json, else as table prints it.
func (a *app) show(body []byte, table func(t *table)) error {
	if a.output == outputJSON {
		return a.showJSON(body)
	}
	return a.showTable(table)
}

func (a *app) showJSON(body []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(body), "", "  "); err != nil {
		return fmt.Errorf("the API answered what is no JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := a.out.Write(b.Bytes())
	return err
}

// showValue is show for a result that is this command's own.
func (a *app) showValue(v any, table func(t *table)) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return a.show(body, table)
}

func (a *app) showTable(fill func(t *table)) error {
	t := &table{w: tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)}
	fill(t)
	return t.w.Flush()
}

// table aligns columns.
type table struct{ w *tabwriter.Writer }

// row prints one line; an empty cell becomes a dash, so that columns can be cut.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			_, _ = io.WriteString(t.w, "\t")
		}
		_, _ = io.WriteString(t.w, cmp.Or(fmt.Sprint(c), "-"))
	}
	_, _ = io.WriteString(t.w, "\n")
}

// stamp writes a time for a person, in UTC as everywhere else.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

// roundDuration keeps three digits, which is what a measurement is worth.
func roundDuration(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
