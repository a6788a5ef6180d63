package planner

import "strconv"

// Duration is a time in nanoseconds, on a clock that is the caller's.
type Duration int64

// Some durations.
const (
	Second Duration = 1e9
	Minute          = 60 * Second
	Hour            = 60 * Minute
)

// String is in seconds.
func (d Duration) String() string { return strconv.FormatInt(int64(d/Second), 10) + " s" }
