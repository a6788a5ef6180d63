package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/openapi"
)

// keyPoll is how often the keys are looked at while daemons learn a new one.
const keyPoll = 200 * time.Millisecond

func newKey(a *app) *cobra.Command {
	return group("key", "Show and rotate the keys that grants are signed with",
		`Grants are what the control plane gives a writer to show to the daemons. They are
signed with a key that all servers share; daemons keep the public half.`,
		newKeyLs(a), newKeyRotate(a), newKeyRetire(a))
}

func newKeyLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the keys, the newest last",
		Example: `  graven key ls`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.ListKeysWithResponse(cmd.Context()))
			if err != nil {
				return err
			}
			return a.showKeys(rsp.Body)
		},
	}
}

func (a *app) showKeys(body []byte) error {
	ring, err := decoded[openapi.KeyRing](body)
	if err != nil {
		return err
	}
	return a.show(body, func(t *table) {
		t.row("KEY", "STATE", "MADE", "PUBLIC KEY")
		for _, k := range ring.Items {
			t.row(k.KeyID, k.State, stamp(k.CreatedAt), k.PublicKey)
		}
	})
}

func newKeyRotate(a *app) *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new key and sign with it once every live daemon keeps it",
		Long: `Make a new key and sign with it once every live daemon has told that it keeps it
on its disk. Writers notice nothing: each gets a grant of the new key with its
next renewal. The key before goes on verifying until ` + "`graven key retire`" + `.

Interrupted, or with --no-wait, the rotation goes on without this command;
running it again waits for the same key.`,
		Example: `  graven key rotate
  graven key rotate --timeout 1m`,
		Args: exactly(),
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return as soon as the key is published")
	timeoutFlag(cmd.Flags(), &timeout)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel, err := withTimeout(cmd.Context(), timeout)
		if err != nil {
			return err
		}
		defer cancel()
		return a.rotateKeys(ctx, noWait)
	}
	return cmd
}

func (a *app) rotateKeys(ctx context.Context, noWait bool) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	rsp, err := checked(api.RotateKeysWithResponse(ctx))
	if openapi.IsProblem(err, openapi.ProblemKeyInUse) {
		return withHint(err, "see `graven key ls`, and retire what is no longer needed with `graven key retire KEY`")
	}
	if err != nil {
		return err
	}
	body := rsp.Body
	for told := ""; ; {
		ring, err := decoded[openapi.KeyRing](body)
		if err != nil {
			return err
		}
		if noWait || !published(&ring) {
			return a.showKeys(body)
		}
		if now := strings.Join(ring.Waiting, ", "); now != told && now != "" {
			told = now
			note(a.err, "waiting for %s to keep the new key", now)
		}
		select {
		case <-time.After(keyPoll):
		case <-ctx.Done():
			return withHint(fmt.Errorf("the new key does not sign yet, %s: %w", waitingText(told), context.Cause(ctx)),
				"it will as soon as those daemons keep it or are down; see `graven key ls`")
		}
		now, err := checked(api.ListKeysWithResponse(ctx))
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			body = now.Body
		}
	}
}

func published(r *openapi.KeyRing) bool {
	for _, k := range r.Items {
		if k.State == openapi.KeyPublished {
			return true
		}
	}
	return false
}

func waitingText(daemons string) string {
	if daemons == "" {
		return "though every live daemon keeps it"
	}
	return "it waits for " + daemons
}

func newKeyRetire(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "retire KEY",
		Short: "Have daemons refuse new writers with grants of an old key",
		Long: `Have daemons refuse new writers whose grants an old key has signed, such as one
that may have leaked. Writers that a daemon serves go on and may reconnect. All
others get a grant of the present key when they renew, within seconds.`,
		Example: `  graven key retire 9f86d081884c7d65`,
		Args:    exactly("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := a.client()
			if err != nil {
				return err
			}
			rsp, err := checked(api.RetireKeyWithResponse(cmd.Context(), args[0]))
			if openapi.IsProblem(err, openapi.ProblemKeyInUse) {
				return withHint(err, "let another key sign first: `graven key rotate`")
			}
			if openapi.IsProblem(err, openapi.ProblemNotFound) {
				return withHint(err, "see `graven key ls`")
			}
			if err != nil {
				return err
			}
			return a.showKeys(rsp.Body)
		},
	}
}
