package openapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gravenio/graven/openapi"
)

// TestPlainHTTPToTLS: whoever forgets the s is told so, by what a real TLS server
// answers.
func TestPlainHTTPToTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	c, err := openapi.NewClientWithResponses("http" + strings.TrimPrefix(srv.URL, "https"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.GetStatusWithResponse(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := openapi.Check(r); !openapi.IsProblem(err, openapi.ProblemBlank) || !strings.Contains(err.Error(), "write https://") {
		t.Errorf("plain HTTP to a TLS server: %v", err)
	}
}
