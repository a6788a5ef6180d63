package openapi

import _ "embed"

//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config types.cfg.yaml openapi.yaml
//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config server.cfg.yaml openapi.yaml
//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config client.cfg.yaml openapi.yaml

//go:embed openapi.yaml
var document []byte

// Document returns a copy of openapi.yaml as it was when the program was built.
func Document() []byte { return append([]byte(nil), document...) }
