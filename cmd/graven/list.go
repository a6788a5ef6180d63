package main

import (
	"encoding/json"
	"fmt"

	"github.com/gravenio/graven/openapi"
)

// pageSize is how many items the client asks for at once.
const pageSize = 1000

// listBody is the body of a list. Items stay as the API wrote them.
type listBody struct {
	Items    []json.RawMessage `json:"items"`
	Continue string            `json:"continue,omitempty"`
}

// fetchAll follows a list to its end and returns one body with every item.
func fetchAll(fetch func(from *string, limit *int32) (openapi.Response, error)) ([]byte, error) {
	all := listBody{Items: []json.RawMessage{}}
	limit := int32(pageSize)
	var from *string
	for {
		rsp, err := checked(fetch(from, &limit))
		if err != nil {
			return nil, err
		}
		var page listBody
		if err := json.Unmarshal(rsp.GetBody(), &page); err != nil {
			return nil, fmt.Errorf("read a list of the API: %w", err)
		}
		all.Items = append(all.Items, page.Items...)
		if page.Continue == "" || from != nil && page.Continue == *from {
			return json.Marshal(all)
		}
		from = &page.Continue
	}
}

// decoded is the answer's body as a value.
func decoded[T any](body []byte) (T, error) {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("read the API's answer: %w", err)
	}
	return v, nil
}

// optional is nil for a flag's zero value, which means "not asked for".
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
