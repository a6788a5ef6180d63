package openapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// maxEventBytes bounds one line of an event stream; an event carries one object,
// which is far less.
const maxEventBytes = 4 << 20

// ErrEventStream says that a stream of events is not what the contract says.
var ErrEventStream = errors.New("openapi: malformed event stream")

// EventReader decodes the body of GET /v1/events. It belongs to one goroutine.
type EventReader struct {
	body io.ReadCloser
	scan *bufio.Scanner
	last int64
}

// NewEventReader takes the answer of Client.GetEvents and owns its body. An
// answer that is an error is returned as *ProblemError, and closed.
func NewEventReader(rsp *http.Response) (*EventReader, error) {
	mt, _, _ := mime.ParseMediaType(rsp.Header.Get("Content-Type"))
	if rsp.StatusCode == http.StatusOK && mt == "text/event-stream" {
		return readEvents(rsp.Body), nil
	}
	defer func() { _ = rsp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(rsp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read error of event stream: %w", err)
	}
	return nil, newProblemError(rsp.StatusCode, rsp.Header.Get("Content-Type"), body)
}

func readEvents(body io.ReadCloser) *EventReader {
	s := bufio.NewScanner(body)
	s.Buffer(nil, maxEventBytes)
	return &EventReader{body: body, scan: s}
}

// LastEventID is the revision to send as Last-Event-ID after a reconnect, as
// far as Next has read; 0 until the stream has named one.
func (r *EventReader) LastEventID() int64 { return r.last }

// Close ends the stream; a blocked Next returns an error.
func (r *EventReader) Close() error { return r.body.Close() }

// Next blocks until the next event of a kind that this version knows; others are
// passed over, but for their ID. It returns io.EOF when the server ended the
// stream (connect again), an error that wraps ErrEventStream for bytes that are
// no event, and what the connection says otherwise.
func (r *EventReader) Next() (Event, error) {
	var data string
	id := int64(-1)
	for r.scan.Scan() {
		line := r.scan.Text()
		if line == "" {
			if data == "" {
				r.name(id) // an ID alone: all of that revision has been sent
				continue
			}
			if e, err := r.decode(data, id); err != nil || e.Kind.Valid() {
				return e, err
			}
			data, id = "", -1
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data += value
			if len(data) > maxEventBytes {
				return Event{}, fmt.Errorf("%w: an event of over %d bytes", ErrEventStream, maxEventBytes)
			}
		case "id":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return Event{}, fmt.Errorf("%w: id %.40q is no revision", ErrEventStream, value)
			}
			id = n
		}
	}
	switch err := r.scan.Err(); {
	case err == nil:
		return Event{}, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return Event{}, fmt.Errorf("%w: a line of over %d bytes", ErrEventStream, maxEventBytes)
	default:
		return Event{}, err
	}
}

func (r *EventReader) decode(data string, id int64) (Event, error) {
	var e Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrEventStream, err)
	}
	if e.Kind == "" || e.ID == "" {
		return Event{}, fmt.Errorf("%w: an event of kind %.40q about %.40q", ErrEventStream, e.Kind, e.ID)
	}
	r.name(id)
	return e, nil
}

func (r *EventReader) name(id int64) {
	if id >= 0 {
		r.last = id
	}
}
