package server

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gravenio/graven/openapi"
)

const defaultLimit = 100

// labelKey is the rule for label keys, which the contract can state only in
// words.
var labelKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)

func checkLabels(field string, m map[string]string) error {
	var fields []openapi.FieldProblem
	for k := range m {
		if !labelKey.MatchString(k) {
			fields = append(fields, openapi.FieldProblem{
				Name: field + "." + clip(k), Rule: "a label's key must match " + labelKey.String(),
			})
		}
	}
	return invalidFields(fields)
}

// selectors turns k=v into a map. The contract has checked their form.
func selectors(in []openapi.LabelSelector) (map[string]string, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(in))
	for _, kv := range in {
		k, v, _ := strings.Cut(kv, "=")
		if have, ok := out[k]; ok && have != v {
			return nil, invalid("label", "%s can't be both %q and %q", k, have, v)
		}
		out[k] = v
	}
	return out, nil
}

// page cuts one page out of a sorted list, and returns what to continue with.
func page[T any](all []T, limit *int32, after *string, key func(*T) string) ([]T, string, error) {
	return pageBy(all, limit, after, key, byKey)
}

func byKey(a, b string) int { return strings.Compare(a, b) }

// pageBy is page for a list of another order.
func pageBy[T any](all []T, limit *int32, after *string, key func(*T) string, order func(a, b string) int) ([]T, string, error) {
	start := 0
	if after != nil {
		last, err := base64.RawURLEncoding.DecodeString(*after)
		if err != nil {
			return nil, "", invalid("continue", "is not what a page ended with")
		}
		i, found := slices.BinarySearchFunc(all, string(last), func(v T, k string) int { return order(key(&v), k) })
		if start = i; found {
			start++
		}
	}
	n := defaultLimit
	if limit != nil {
		n = int(*limit)
	}
	rest := all[start:]
	if len(rest) <= n {
		return rest, "", nil
	}
	return rest[:n], base64.RawURLEncoding.EncodeToString([]byte(key(&rest[n-1]))), nil
}

func etag(rev int64) string { return `"` + strconv.FormatInt(rev, 10) + `"` }

// revisionOf reads If-Match; zero is none.
func revisionOf(tag *string) (int64, error) {
	switch rev, err := anyRevisionOf(tag); {
	case err != nil || rev == nil:
		return 0, err
	case *rev == 0:
		return 0, noTag(*tag)
	default:
		return *rev, nil
	}
}

// anyRevisionOf reads If-Match for what has an ETag before anybody has written it; nil is
// none.
func anyRevisionOf(tag *string) (*int64, error) {
	if tag == nil {
		return nil, nil
	}
	rev, err := strconv.ParseInt(strings.Trim(*tag, `"`), 10, 64)
	if err != nil || rev < 0 {
		return nil, noTag(*tag)
	}
	return &rev, nil
}

func noTag(tag string) error {
	return invalid("If-Match", "must be an ETag that this API gave, not %.40q", tag)
}
