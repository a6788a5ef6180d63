package store

import (
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// The tables, each a folder of keys.
const (
	tableDaemons   = "daemons"
	tableLive      = "live"
	tableSpace     = "space"
	tablePools     = "pools"
	tableAddresses = "addresses"
	tableGone      = "gone"
	tableLogs      = "logs"
	tableNames     = "lognames"
	tableWriters   = "writers"
	tableCondemned = "condemned"
	tableIdem      = "idem"
	tableEvents    = "events"
	tableOperators = "operators"
	tablePlanner   = "planner"
	tableElection  = "election"
	tableKeys      = "keys"
)

const (
	prefix          = "/graven/"
	keyCluster      = prefix + "cluster"
	keyGrantKey     = prefix + tableKeys + "/grant"
	keyPeriod       = prefix + tableKeys + "/period"
	keyMarks        = prefix + tableKeys + "/marks"
	prefixDaemons   = prefix + tableDaemons + "/"
	prefixLive      = prefix + tableLive + "/"
	prefixSpace     = prefix + tableSpace + "/"
	prefixPools     = prefix + tablePools + "/"
	prefixAddresses = prefix + tableAddresses + "/"
	prefixGone      = prefix + tableGone + "/"
	prefixLogs      = prefix + tableLogs + "/"
	prefixNames     = prefix + tableNames + "/"
	prefixWriters   = prefix + tableWriters + "/"
	prefixCondemned = prefix + tableCondemned + "/"
	prefixIdem      = prefix + tableIdem + "/"
	prefixEvents    = prefix + tableEvents + "/"
	prefixOperators = prefix + tableOperators + "/"
	keyPlanner      = prefix + tablePlanner
	keyElection     = prefix + tableElection // the library adds a slash and its lease
)

func condemnedKey(daemonID, replicaID string) string {
	return prefixCondemned + daemonID + "/" + replicaID
}

// splitKey returns the table and what follows it.
func splitKey(key string) (table, rest string) {
	key = strings.TrimPrefix(key, prefix)
	table, rest, _ = strings.Cut(key, "/")
	return table, rest
}

var (
	idPattern       = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	operatorPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)
	idemPattern     = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

const idRule = "must match [a-z0-9][a-z0-9._-]{0,62}"

func checkID(field, id string) error {
	if !idPattern.MatchString(id) {
		return invalid(field, "%s, not %q", idRule, clip(id))
	}
	return nil
}

func checkUUID(field, id string) error {
	if !isUUID(id) {
		return invalid(field, "must be a lower-case UUID, not %q", clip(id))
	}
	return nil
}

// isUUID accepts the canonical form only, so that one ID has one key.
func isUUID(s string) bool {
	u, err := uuid.Parse(s)
	return err == nil && u.String() == s
}

func checkIdempotencyKey(key string) error {
	if key != "" && !idemPattern.MatchString(key) {
		return invalid("Idempotency-Key", "must be 1 to 128 of A-Z a-z 0-9 . _ : -")
	}
	return nil
}

// checkLogName refuses what could be taken for a log's ID, in any of the forms
// in which UUIDs are written.
func checkLogName(name string) error {
	if err := checkID("name", name); err != nil {
		return err
	}
	if _, err := uuid.Parse(name); err == nil {
		return invalid("name", "must not be a UUID, because IDs are; choose another name")
	}
	return nil
}

// clip keeps a peer's text in an error message short.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
