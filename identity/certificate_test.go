package identity

import (
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestOfCertificate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		uris string
		want string // the principal, or a part of the error
	}{
		{"graven://client/alice", `"alice" (client)`},
		{"graven://viewer/a@x.org graven://admin/a@x.org https://example.org/x graven://group/g1", `"a@x.org" (viewer, admin)`},
		{"graven://client/alice graven://client/alice", `"alice" (client)`},
		{"", "names nobody"},
		{"graven://group/g1", "names nobody"},
		{"spiffe://client/alice", "names nobody"},
		{"graven://client/alice graven://admin/bob", `both "alice" and "bob"`},
		{"graven://root/alice", `"root" is no role`},
		{"graven://client/", "is no name"},
		{"graven://client/a/b", "is no name"},
		{"graven://client/a%20b", "is no name"},
		{"graven://client/alice?x=y", "is not graven://ROLE/NAME"},
		{"graven://u@client/alice", "is not graven://ROLE/NAME"},
		{"graven://client/" + strings.Repeat("a", MaxName+1), "is no name"},
		{"graven://client/a" + strings.Repeat(" graven://group/g", MaxGroups+1), "more than"},
	} {
		cert := &x509.Certificate{}
		for s := range strings.FieldsSeq(c.uris) {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		p, err := OfCertificate(cert)
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.uris, got, c.want)
		}
	}
}

func TestIssuedCertificateNamesThePrincipal(t *testing.T) {
	t.Parallel()
	a, _ := newAuthority(t)
	want := Principal{Name: "auth0|a.b@c", Roles: []Role{RoleClient, RoleViewer}, Groups: []string{"g1", "g2"}}
	files, err := a.Issue(Request{Principal: want})
	if err != nil {
		t.Fatal(err)
	}
	cert := parseCert(t, files.Cert)
	got, err := OfCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != want.Name || !slices.Equal(got.Roles, want.Roles) || !slices.Equal(got.Groups, want.Groups) || got.Key != Thumbprint(cert) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if left := cert.NotAfter.Sub(a.cert.NotAfter); left > 0 {
		t.Errorf("the certificate outlives its authority by %v", left)
	}
	if _, err := ParseAuthority(files); err == nil {
		t.Error("a certificate that is no authority's can issue others")
	}
	for name, r := range map[string]Request{
		"no name":  {},
		"role":     {Principal: Principal{Name: "a", Roles: []Role{"root"}}},
		"group":    {Principal: Principal{Name: "a", Groups: []string{""}}},
		"validity": {Principal: Principal{Name: "a"}, Validity: -1},
	} {
		if _, err := a.Issue(r); err == nil {
			t.Errorf("%s: a certificate was made", name)
		}
	}
}
