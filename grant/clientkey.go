package grant

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// clientKeyDigits is the length of a client key.
const clientKeyDigits = 2 * sha256.Size

// ClientKey names the key of a certificate: the SHA-256 of its
// SubjectPublicKeyInfo in lower-case hexadecimal.
func ClientKey(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// IsClientKey says whether s has the form that ClientKey returns.
func IsClientKey(s string) bool { return isHex(s, clientKeyDigits) }

func isHex(s string, digits int) bool {
	if len(s) != digits {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
