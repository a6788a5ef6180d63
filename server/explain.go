package server

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/gravenio/graven/openapi"
)

// explain turns the validator's errors into fields and rules.
func explain(err error) error {
	if err == nil {
		return nil
	}
	fields := fieldsIn(err, "")
	slices.SortFunc(fields, func(a, b openapi.FieldProblem) int {
		return strings.Compare(a.Name+a.Rule, b.Name+b.Rule)
	})
	const most = 20
	if len(fields) > most {
		fields = append(fields[:most], openapi.FieldProblem{Name: "body", Rule: fmt.Sprintf("and %d more", len(fields)-most)})
	}
	return &invalidError{slices.Compact(fields)}
}

// fieldsIn walks the validator's tree of errors; outer is the parameter that
// they are about, or "".
func fieldsIn(err error, outer string) []openapi.FieldProblem {
	switch e := err.(type) { //nolint:errorlint // The tree is walked by hand, one level at a time.
	case openapi3.MultiError:
		var fields []openapi.FieldProblem
		for _, inner := range e {
			fields = append(fields, fieldsIn(inner, outer)...)
		}
		return fields
	case *openapi3filter.RequestError:
		name := "body"
		if e.Parameter != nil {
			name, outer = e.Parameter.Name, e.Parameter.Name
		}
		if e.Err != nil {
			return fieldsIn(e.Err, outer)
		}
		return []openapi.FieldProblem{{Name: name, Rule: clip(e.Reason)}}
	case *openapi3.SchemaError:
		return []openapi.FieldProblem{schemaProblem(e, outer)}
	}
	if outer == "" {
		outer = "body"
	}
	return []openapi.FieldProblem{{Name: outer, Rule: clip(err.Error())}}
}

// schemaProblem names the member by its path in the body, or the parameter.
func schemaProblem(e *openapi3.SchemaError, outer string) openapi.FieldProblem {
	path, rule := e.JSONPointer(), ruleOf(e)
	var unknown string
	if _, err := fmt.Sscanf(e.Reason, "property %q is unsupported", &unknown); err == nil {
		path, rule = append(path, unknown), "there is no such member"
	}
	name := outer
	switch {
	case name != "":
	case len(path) == 0:
		name = "body"
	default:
		if name = clip(strings.Join(path, ".")); name == "" {
			name = `""` // JSON allows it
		}
	}
	return openapi.FieldProblem{Name: name, Rule: rule}
}

// ruleOf says the rule in plain numbers; the validator writes 1.048576e+06.
func ruleOf(e *openapi3.SchemaError) string {
	s := e.Schema
	switch {
	case e.SchemaField == "required":
		return "is required"
	case e.SchemaField == "pattern":
		return "must match " + s.Pattern
	case e.SchemaField == "enum":
		return "must be one of " + strings.Trim(fmt.Sprint(s.Enum), "[]")
	case e.SchemaField == "minimum" && s.Min != nil:
		return "must be at least " + plain(*s.Min)
	case e.SchemaField == "maximum" && s.Max != nil:
		return "must be at most " + plain(*s.Max)
	case e.SchemaField == "multipleOf" && s.MultipleOf != nil:
		return "must be a multiple of " + plain(*s.MultipleOf)
	}
	if strings.HasPrefix(e.Reason, "cannot convert json.Number") {
		return "is too large a number"
	}
	return clip(e.Reason)
}

func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
