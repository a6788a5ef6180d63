package apiclient

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrAnswerTooLong says that an answer is longer than any of the API's.
var ErrAnswerTooLong = fmt.Errorf("apiclient: the answer is longer than %d bytes", maxAnswer)

// NoAnswerError says that no server gave an answer.
type NoAnswerError struct {
	Attempts []Attempt // at least one
}

// Attempt is one server's failure.
type Attempt struct {
	URL string
	Err error
}

// Error names each server with its reason.
func (e *NoAnswerError) Error() string {
	texts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		texts[i] = fmt.Sprintf("the API at %s does not answer: %v", a.URL, a.Err)
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the reasons.
func (e *NoAnswerError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

// timeoutError is the cause of an attempt's end.
type timeoutError struct {
	what string
	took time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("%s within %v", e.what, e.took.Round(time.Millisecond))
}

func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }

// plain says in few words what went wrong, without the URL that is named anyway.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &refusedError{err}
	}
	return err
}

// refusedError is short for what Go says at length.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return "connection refused" }
func (e *refusedError) Unwrap() error { return e.err }
