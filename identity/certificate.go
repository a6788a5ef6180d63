package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// URIScheme is the scheme of the names in certificates: a subject alternative
// name of the kind URI,
//
//	graven://ROLE/NAME     who it is; several only with the same NAME
//	graven://group/GROUP   a group that it belongs to
//
// The subject is for people and means nothing: what another use of the same
// authority writes there gives no rights here.
const URIScheme = "graven"

const groupHost = "group"

// Limits of a principal.
const (
	// MaxName bounds names and groups, in bytes.
	MaxName = 128
	// MaxGroups bounds the groups of one principal.
	MaxGroups = 32
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@:+|=-]*$`)

// CheckName refuses what can't name a principal or a group: the first byte must
// be a letter or digit, the others may also be one of . _ @ : + | = -, and at
// most MaxName in all.
func CheckName(name string) error {
	if len(name) > MaxName || !namePattern.MatchString(name) {
		return fmt.Errorf("identity: %.200q is no name: must be 1 to %d of letters, digits and ._@:+|=- and begin with a letter or digit", name, MaxName)
	}
	return nil
}

// Roles lists all roles.
func Roles() []Role { return []Role{RoleViewer, RoleClient, RoleDaemon, RoleAdmin} }

// ParseRole is the role of that name.
func ParseRole(name string) (Role, error) {
	if r := Role(name); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("identity: %.100q is no role: must be viewer, client, daemon or admin", name)
}

// URIs are the names to be written into a principal's certificate.
func (p Principal) URIs() []*url.URL {
	uris := make([]*url.URL, 0, len(p.Roles)+len(p.Groups))
	for _, r := range p.Roles {
		uris = append(uris, &url.URL{Scheme: URIScheme, Host: string(r), Path: "/" + p.Name})
	}
	for _, g := range p.Groups {
		uris = append(uris, &url.URL{Scheme: URIScheme, Host: groupHost, Path: "/" + g})
	}
	return uris
}

// OfCertificate reads the principal from a certificate that somebody else has
// verified. It fails for one that names nobody, or more than one.
func OfCertificate(cert *x509.Certificate) (Principal, error) {
	p := Principal{Via: ViaCertificate, Key: Thumbprint(cert)}
	for _, u := range cert.URIs {
		if u.Scheme != URIScheme {
			continue
		}
		if err := p.take(u); err != nil {
			return Principal{}, err
		}
	}
	if p.Name == "" {
		return Principal{}, fmt.Errorf("identity: the certificate of %.100q names nobody: it needs a subject alternative name URI:%s://ROLE/NAME", cert.Subject.CommonName, URIScheme)
	}
	return p, nil
}

// take adds what one URI says.
func (p *Principal) take(u *url.URL) error {
	name := strings.TrimPrefix(u.Path, "/")
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("identity: the certificate's %.200q is not %s://ROLE/NAME", u, URIScheme)
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if u.Host == groupHost {
		if len(p.Groups) == MaxGroups {
			return fmt.Errorf("identity: the certificate names more than %d groups", MaxGroups)
		}
		p.Groups = append(p.Groups, name)
		return nil
	}
	role, err := ParseRole(u.Host)
	if err != nil {
		return err
	}
	if p.Name != "" && p.Name != name {
		return fmt.Errorf("identity: the certificate names both %q and %q", p.Name, name)
	}
	p.Name = name
	if !has(p.Roles, role) {
		p.Roles = append(p.Roles, role)
	}
	return nil
}

func has(roles []Role, r Role) bool { return slices.Contains(roles, r) }

// Thumbprint is the SHA-256 of the certificate's public key
// (SubjectPublicKeyInfo, DER) in lower-case hex. It stays the same when the
// certificate is renewed with the same key.
func Thumbprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
