package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gravenio/graven/openapi"
)

// rules are the flags that say which daemons a log may use.
type rules struct {
	domain    string
	media     string
	transport string
	labels    []string
	exclude   []string
}

func (r *rules) register(f *pflag.FlagSet) {
	f.StringVar(&r.domain, "failure-domain", "", "no two replicas in the same `DOMAIN`: host, rack or zone (default host)")
	f.StringVar(&r.media, "media", "", "`MEDIUM` of the pools: pmem, file or volatile (default any but volatile)")
	f.StringVar(&r.transport, "transport", "", "only daemons that offer this `TRANSPORT`: tcp or verbs")
	f.StringArrayVar(&r.labels, "label", nil, "only daemons with this label, `KEY=VALUE`; may be repeated, all must match")
	f.StringSliceVar(&r.exclude, "exclude", nil, "`DAEMON`s not to use")
}

func (r *rules) check() error {
	if err := oneOf("failure-domain", r.domain, openapi.DomainHost, openapi.DomainRack, openapi.DomainZone); err != nil {
		return err
	}
	if err := checkMedia(r.media); err != nil {
		return err
	}
	if err := checkTransport(r.transport); err != nil {
		return err
	}
	_, err := parseLabels(r.labels)
	return err
}

func checkMedia(m string) error {
	return oneOf("media", m, openapi.MediaPmem, openapi.MediaFile, openapi.MediaVolatile)
}

func checkTransport(t string) error {
	return oneOf("transport", t, openapi.TransportTCP, openapi.TransportVerbs)
}

// oneOf refuses a value that is neither empty nor among the known ones.
func oneOf[T ~string](flag, value string, known ...T) error {
	if value == "" || slices.Contains(known, T(value)) {
		return nil
	}
	var names []string
	for _, k := range known {
		names = append(names, string(k))
	}
	return usagef("--%s is %q: must be one of %s", flag, value, strings.Join(names, ", "))
}

func (r *rules) placement() openapi.PlacementRules {
	labels, _ := parseLabels(r.labels)
	return openapi.PlacementRules{
		FailureDomain: openapi.FailureDomain(r.domain),
		Media:         openapi.Media(r.media),
		Transport:     openapi.Transport(r.transport),
		Labels:        labels,
		Exclude:       r.exclude,
	}
}

// parseLabels reads KEY=VALUE arguments. The server knows the rest of the rules.
func parseLabels(args []string) (openapi.Labels, error) {
	var labels openapi.Labels
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return nil, usagef("--label is %q: must be KEY=VALUE", arg)
		}
		if old, twice := labels[k]; twice && old != v {
			return nil, usagef("--label names %s twice, as %q and %q", k, old, v)
		}
		if labels == nil {
			labels = openapi.Labels{}
		}
		labels[k] = v
	}
	return labels, nil
}

// explain adds what the rules could do about a placement that can't be met.
func (r *rules) explain(err error) error {
	var p *openapi.ProblemError
	if r.media == "" && errors.As(err, &p) && p.Problem.Placement != nil && p.Problem.Placement.Removed["media"] > 0 {
		return withHint(err, "without --media, volatile pools are not used, because they lose all with their process; "+
			"to try Graven on them nevertheless, say --media volatile")
	}
	return err
}
