package rdmaio

import "errors"

// kinds is the table of error numbers on the wire; read-only. A number is never
// used again for another meaning; 0 is no error.
var kinds = [...]error{
	1:  ErrVersion,
	2:  ErrFrame,
	3:  ErrTooLarge,
	4:  ErrUnknownLog,
	5:  ErrReplicaMissing,
	6:  ErrGrant,
	7:  ErrFenced,
	8:  ErrSessionEnded,
	9:  ErrReadOnly,
	10: ErrRange,
	11: ErrChain,
	12: ErrNotSealed,
	13: ErrMedium,
	14: ErrNoSpace,
	15: ErrClosed,
	16: ErrInternal,
	17: ErrBusy,
	18: ErrLost,
	19: ErrTLS,
	20: ErrUntrusted,

	firstPrecise: ErrGrantMalformed,
	22:           ErrGrantAlgorithm,
	23:           ErrGrantSignature,
	24:           ErrGrantUnknownKey,
	25:           ErrGrantRetiredKey,
	26:           ErrGrantExpired,
	27:           ErrGrantCluster,
	28:           ErrGrantLog,
	29:           ErrGrantTerm,
	30:           ErrGrantReplica,
	31:           ErrGrantRights,
	32:           ErrGrantNoKey,
	33:           ErrGrantClientKey,
}

// firstPrecise is the first number whose error is one of a lower number, too: the
// more precise one travels.
const firstPrecise = 21

// Code returns the number by which an error's kind travels; that of
// [ErrInternal] for an error that is none of this package's.
func Code(err error) uint32 {
	for i := range kinds {
		code := (i + firstPrecise) % len(kinds)
		kind := kinds[code]
		if kind != nil && errors.Is(err, kind) {
			return uint32(code)
		}
	}
	return Code(ErrInternal)
}

// Kind returns the sentinel with that number, [ErrInternal] for a number that
// this program does not know.
func Kind(code uint32) error {
	if code == 0 || code >= uint32(len(kinds)) {
		return ErrInternal
	}
	return kinds[code]
}

// AsError returns err in the form that travels: its kind, what it says, and the
// fence if it names one.
func AsError(err error) *Error {
	var typed *Error
	if errors.As(err, &typed) {
		return typed
	}
	kind := Kind(Code(err))
	if err == kind { //nolint:errorlint // the bare sentinel has nothing to add
		return &Error{Kind: kind}
	}
	return &Error{Kind: kind, Detail: err.Error()}
}
