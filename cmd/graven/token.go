package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/identity"
)

func newToken(a *app) *cobra.Command {
	return group("token", "Make and take back tokens for the API",
		`Make and take back tokens for the API, for those who have no certificate. A server
reads the file of --tokens, which has hashes only, again when it changes.`,
		newTokenNew(a), newTokenLs(a), newTokenRm(a))
}

func tokensFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "file", "tokens", "`FILE` of tokens")
}

func newTokenNew(a *app) *cobra.Command {
	var file string
	var roles, groups []string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a token and print it, once",
		Long: `Make a token for NAME, add its hash to the file, and print the token. It is kept
nowhere else: whoever loses it gets a new one.`,
		Example: `  graven token new grafana --role viewer
  graven token new vm-host-7 --role client --group team-a --expires 720h >token`,
		Args: exactly("NAME"),
	}
	tokensFlag(cmd, &file)
	f := cmd.Flags()
	f.StringSliceVar(&roles, "role", nil, "`ROLE`: viewer, client, daemon or admin; may be repeated")
	f.StringSliceVar(&groups, "group", nil, "`GROUP` that it belongs to; may be repeated")
	f.DurationVar(&expires, "expires", 0, "for how long it is valid (default until it is taken back)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if expires < 0 {
			return usagef("--expires must be positive")
		}
		if len(roles) == 0 {
			return usagef("--role is missing: name viewer, client, daemon or admin")
		}
		p := identity.Principal{Name: args[0], Groups: groups}
		for _, r := range roles {
			p.Roles = append(p.Roles, identity.Role(r))
		}
		var until time.Time
		if expires > 0 {
			until = time.Now().Add(expires)
		}
		token, entry, err := identity.NewToken(p, until)
		if err != nil {
			return usagef("%s", trimmed(err))
		}
		if err := identity.AddToken(file, entry); err != nil {
			return trimmed(err)
		}
		return a.showValue(map[string]string{"name": p.Name, "token": token}, func(t *table) { t.row(token) })
	}
	return cmd
}

func newTokenLs(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "ls", Short: "List whose tokens are in a file", Example: `  graven token ls --file tokens`, Args: exactly(),
	}
	tokensFlag(cmd, &file)
	cmd.RunE = func(*cobra.Command, []string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		entries, err := identity.ParseTokens(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, trimmed(err))
		}
		items := tokenItems(entries)
		return a.showValue(items, func(t *table) {
			t.row("NAME", "ROLES", "GROUPS", "EXPIRES", "HASH")
			for _, x := range items {
				t.row(x.Name, strings.Join(x.Roles, ","), strings.Join(x.Groups, ","), x.Expires, x.SHA256[:12])
			}
		})
	}
	return cmd
}

// tokenItem is a token as -o json shows it.
type tokenItem struct {
	Name    string   `json:"name"`
	Roles   []string `json:"roles"`
	Groups  []string `json:"groups"`
	Expires string   `json:"expires,omitempty"`
	SHA256  string   `json:"sha256"`
}

func tokenItems(entries []identity.Entry) []tokenItem {
	items := make([]tokenItem, len(entries))
	for i, e := range entries {
		items[i] = tokenItem{Name: e.Principal.Name, Groups: append([]string{}, e.Principal.Groups...), SHA256: hex.EncodeToString(e.Hash[:])}
		for _, r := range e.Principal.Roles {
			items[i].Roles = append(items[i].Roles, string(r))
		}
		if !e.Expires.IsZero() {
			items[i].Expires = e.Expires.Format(time.RFC3339)
		}
	}
	return items
}

func newTokenRm(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Take back all tokens of a name", Example: `  graven token rm vm-host-7 --file tokens`, Args: exactly("NAME"),
	}
	tokensFlag(cmd, &file)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		n, err := identity.RemoveTokens(file, args[0])
		if err != nil {
			return trimmed(err)
		}
		if n == 0 {
			return withHint(fmt.Errorf("%s has no token of %s", file, args[0]), "see `graven token ls --file %s`", shellWord(file))
		}
		return a.showValue(map[string]int{"removed": n}, func(t *table) { t.row(fmt.Sprintf("%d taken back", n)) })
	}
	return cmd
}
