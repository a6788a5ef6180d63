package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// TokenPrefix begins every token that NewToken makes, so that it is known for
// what it is wherever it turns up.
const TokenPrefix = "graven_"

// tokenBytes is what a guess has to hit. With so many random bytes a plain hash
// gives nothing away.
const tokenBytes = 32

// MaxTokens bounds the entries of a file of tokens.
const MaxTokens = 4096

// Entry is a line of a file of tokens: whose token it is, and its hash. Fields
// are KEY=VALUE, lists have commas:
//
//	name=alice roles=client,viewer groups=team expires=2027-01-02T15:04:05Z sha256=HEX
//
// groups and expires may be left out. Empty lines and those that begin with #
// mean nothing.
type Entry struct {
	Principal Principal // Via and Key are not of the file
	Expires   time.Time // zero: never; whole seconds
	Hash      [sha256.Size]byte
}

// NewToken makes a token and its entry. The token is in no file: whoever loses
// it gets a new one.
func NewToken(p Principal, expires time.Time) (token string, e Entry, err error) {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // It never fails: crypto/rand ends the process instead.
	token = TokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	e = Entry{Principal: p, Expires: expires.UTC().Truncate(time.Second), Hash: sha256.Sum256([]byte(token))}
	if expires.IsZero() {
		e.Expires = time.Time{}
	}
	return token, e, e.check()
}

func (e *Entry) check() error {
	if err := CheckName(e.Principal.Name); err != nil {
		return err
	}
	if len(e.Principal.Roles) == 0 {
		return errors.New("identity: a token without roles gives no rights: name viewer, client, daemon or admin")
	}
	for _, r := range e.Principal.Roles {
		if _, err := ParseRole(string(r)); err != nil {
			return err
		}
	}
	if len(e.Principal.Groups) > MaxGroups {
		return fmt.Errorf("identity: %d groups, at most %d", len(e.Principal.Groups), MaxGroups)
	}
	for _, g := range e.Principal.Groups {
		if err := CheckName(g); err != nil {
			return err
		}
	}
	return nil
}

// String is the entry's line.
func (e *Entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "name=%s roles=%s", e.Principal.Name, strings.Join(texts(e.Principal.Roles), ","))
	if len(e.Principal.Groups) > 0 {
		fmt.Fprintf(&b, " groups=%s", strings.Join(e.Principal.Groups, ","))
	}
	if !e.Expires.IsZero() {
		fmt.Fprintf(&b, " expires=%s", e.Expires.Format(time.RFC3339))
	}
	fmt.Fprintf(&b, " sha256=%s", hex.EncodeToString(e.Hash[:]))
	return b.String()
}

func texts(roles []Role) []string {
	out := make([]string, len(roles))
	for i, r := range roles {
		out[i] = string(r)
	}
	return out
}

// ParseTokens reads a file of tokens. One line that is wrong makes the whole
// file wrong: a typing error must not take a right away, or give one, in silence.
func ParseTokens(text []byte) ([]Entry, error) {
	var entries []Entry
	seen := map[[sha256.Size]byte]bool{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if seen[e.Hash] {
			return nil, fmt.Errorf("line %d: this token has a line already", n)
		}
		if len(entries) == MaxTokens {
			return nil, fmt.Errorf("line %d: more than %d tokens", n, MaxTokens)
		}
		seen[e.Hash] = true
		entries = append(entries, e)
	}
	return entries, nil
}

func parseEntry(line string) (Entry, error) {
	var e Entry
	seen := map[string]bool{}
	for field := range strings.FieldsSeq(line) {
		key, value, ok := strings.Cut(field, "=")
		if !ok || value == "" {
			return e, fmt.Errorf("%.100q must be KEY=VALUE", field)
		}
		if seen[key] {
			return e, fmt.Errorf("%.100s comes twice", key)
		}
		seen[key] = true
		if err := e.set(key, value); err != nil {
			return e, err
		}
	}
	for _, key := range []string{"name", "roles", "sha256"} {
		if !seen[key] {
			return e, fmt.Errorf("%s= is missing", key)
		}
	}
	return e, e.check()
}

func (e *Entry) set(key, value string) (err error) {
	switch key {
	case "name":
		e.Principal.Name = value
	case "roles":
		for r := range strings.SplitSeq(value, ",") {
			e.Principal.Roles = append(e.Principal.Roles, Role(r))
		}
	case "groups":
		e.Principal.Groups = strings.Split(value, ",")
	case "expires":
		if e.Expires, err = time.Parse(time.RFC3339, value); err != nil {
			return fmt.Errorf("expires=%.100q must be a time such as 2027-01-02T15:04:05Z", value)
		}
		e.Expires = e.Expires.UTC().Truncate(time.Second)
	case "sha256":
		b, err := hex.DecodeString(value)
		if err != nil || len(b) != sha256.Size {
			return fmt.Errorf("sha256= must be %d hexadecimal digits", 2*sha256.Size)
		}
		e.Hash = [sha256.Size]byte(b)
	default:
		return fmt.Errorf("%.100q is no field: write name, roles, groups, expires or sha256", key)
	}
	return nil
}

// Tokens are the entries of a file, which is read again when it changes. They
// are safe for concurrent use.
type Tokens struct {
	file *watched[[]Entry]
	now  func() time.Time
}

// LoadTokens reads the file. Nil for the log means slog.Default.
func LoadTokens(path string, log *slog.Logger) (*Tokens, error) {
	if log == nil {
		log = slog.Default()
	}
	file, err := watch(path, log, ParseTokens)
	if err != nil {
		return nil, err
	}
	return &Tokens{file: file, now: time.Now}, nil
}

// find says whose token it is. It takes as long for any token.
func (t *Tokens) find(token string) (Principal, error) {
	hash := sha256.Sum256([]byte(token))
	var found *Entry
	entries := t.file.current()
	for i := range entries {
		if subtle.ConstantTimeCompare(hash[:], entries[i].Hash[:]) == 1 {
			found = &entries[i]
		}
	}
	if found == nil {
		return Principal{}, tokenInvalid("this server does not know it: it was taken back, or belongs to another cluster")
	}
	if !found.Expires.IsZero() && !t.now().Before(found.Expires) {
		return Principal{}, tokenExpired(found.Expires)
	}
	p := found.Principal
	p.Via = ViaToken
	return p, nil
}
