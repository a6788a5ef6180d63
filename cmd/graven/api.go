package main

import (
	"context"
	"strings"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
)

// client returns a client of the API that fails over between its servers.
func (a *app) client() (*openapi.ClientWithResponses, error) {
	c, err := a.dialer()
	if err != nil {
		return nil, err
	}
	return c.API(), nil
}

// dialer is what client's calls go through.
func (a *app) dialer() (*apiclient.Client, error) {
	list, err := parseEndpoints(a.endpoints)
	if err != nil {
		return nil, err
	}
	o, err := a.apiOptions(list, nil)
	if err != nil {
		return nil, err
	}
	c, err := apiclient.New(list, o)
	if err != nil {
		return nil, usagef("--api: %s", err)
	}
	return c, nil
}

// parseEndpoints reads a comma list of addresses; a bare HOST:PORT means http.
func parseEndpoints(list string) ([]string, error) {
	var out []string
	for text := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		u, err := apiclient.ParseURL(text)
		if err != nil {
			return nil, usagef("--api: %s", err)
		}
		out = append(out, u.String())
	}
	if len(out) == 0 {
		return nil, usagef("--api names no address: write http://HOST:PORT")
	}
	return out, nil
}

// checked turns an answer that is an error into one.
func checked[R openapi.Response](rsp R, err error) (R, error) {
	if err != nil {
		return rsp, err
	}
	return rsp, openapi.Check(rsp)
}

// remove makes a DELETE. Where a server may have done it and its answer was lost,
// another one finds nothing any more, and that is what was asked for.
func remove[R openapi.Response](ctx context.Context, call func(ctx context.Context) (R, error)) error {
	ctx, lost := apiclient.NoteLost(ctx)
	_, err := checked(call(ctx))
	if lost() && openapi.IsProblem(err, openapi.ProblemNotFound) {
		return nil
	}
	return err
}
