package server

import (
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gravenio/graven/openapi"
)

// A contract in which an operation says nothing is not served.
func TestReadRolesRefuses(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*openapi3.Operation){
		"has no x-roles":    func(op *openapi3.Operation) { delete(op.Extensions, rolesExtension) },
		`"root" is no role`: func(op *openapi3.Operation) { op.Extensions[rolesExtension] = []any{"root"} },
		`"anybody" is no`:   func(op *openapi3.Operation) { op.Extensions[rolesExtension] = []any{"viewer", "anybody"} },
		`"" is no role`:     func(op *openapi3.Operation) { op.Extensions[rolesExtension] = []any{7} },
	} {
		doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
		if err != nil {
			t.Fatal(err)
		}
		edit(doc.Paths.Find("/v1/status").Get)
		if _, err := readRoles(doc); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "GET /v1/status") {
			t.Errorf("got %v, want an error with %q for GET /v1/status", err, name)
		}
	}
}
