SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

BIN := $(CURDIR)/bin
TOOLS := $(CURDIR)/.tools

# The version comes from git; without git the binary says so itself.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# Tools are built once a version, of themselves and of Go, and kept in .tools.
GO_VERSION := $(shell go env GOVERSION)
LINT_VERSION := $(shell sed -n 's|.*github.com/golangci/golangci-lint/v2 \(v[^ ]*\).*|\1|p' tools/lint/go.mod)
LINT := $(TOOLS)/golangci-lint-$(LINT_VERSION)-$(GO_VERSION)
GOFUMPT := $(TOOLS)/gofumpt
GOTESTSUM := $(TOOLS)/gotestsum
REDOCLY := tools/npm/node_modules/.bin/redocly

export TEST_JSON := $(TOOLS)/test.json
export REDOCLY_TELEMETRY := off
export REDOCLY_SUPPRESS_UPDATE_NOTICE := true

# What the compiler is told to run most: docs/adr/0031. Not default.pgo, with which
# `go test` would compile everything once more.
PROFILE := $(CURDIR)/bench/graven.pgo

FUZZTIME ?= 3s
BENCH ?= .
BENCHTIME ?= 1s

.PHONY: help
help: ## list the targets (default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##### Build and run

.PHONY: build
build: ## build bin/graven
	go build -pgo "$(PROFILE)" -ldflags "$(LDFLAGS)" -o $(BIN)/graven ./cmd/graven

.PHONY: run
run: build ## build, then start a cluster on this machine; more flags in ARGS
	@exec $(BIN)/graven dev --data $(CURDIR)/graven-data $(ARGS)

.PHONY: bench
bench: build ## benchmarks of the packages, then log against bare fabric, pools against libpmem and fio
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...
	$(BIN)/graven bench fabric
	$(BIN)/graven bench log
	$(BIN)/graven bench pmem

.PHONY: bench-baseline
bench-baseline: ## build bin/pmem_baseline, what `graven bench pmem` is measured beside; needs libpmem-dev
	@mkdir -p $(BIN)
	$(CC) -O2 -Wall -Wextra -Werror -msse4.2 -o $(BIN)/pmem_baseline bench/pmem_baseline.c -lpmem

.PHONY: profile
profile: ## measure anew what the compiler is told to run most, when the path of an append has changed
	@tools/profile

SIMTIME ?= 8760h
SEED ?= $(shell date +%s)000

.PHONY: sim
sim: ## simulate fresh seeds until stopped (or for SIMTIME), with events a second
	go test ./replog/sim -run '^TestSim$$' -count=1 -timeout 0 -v -for $(SIMTIME) -seed $(SEED)

SOAKTIME ?= 20m

.PHONY: soak
soak: ## clients on a whole cluster that is being killed, for SOAKTIME; SEED repeats the choices
	go test ./cmd/graven -run '^TestSoak$$' -count=1 -timeout 0 -v -artifacts -outputdir $(CURDIR) -soak $(SOAKTIME) -soakseed $(SEED)

.PHONY: clean
clean: ## remove what was built; graven-data and .tools stay
	rm -rf $(BIN) $(TEST_JSON)

##### Check

.PHONY: check
check: fmt-check build-cgo build-nocgo vet lint unit-short ## the quick loop before a commit

.PHONY: test
test: ## everything that CI runs, with seconds per stage
	@tools/stages prereqs generate-check fmt-check build-cgo build-nocgo smoke tools lint spec-lint unit fuzz-short

.PHONY: prereqs
prereqs: ## find (as root: install) what the full tests need
	@tools/prereqs

.PHONY: generate
generate: ## regenerate code from the contract
	go generate ./...

.PHONY: generate-check
generate-check: ## fail if generated code is stale
	@tools/generated

.PHONY: fmt
fmt: $(GOFUMPT) ## format all code
	$(GOFUMPT) -w .

.PHONY: fmt-check
fmt-check: $(GOFUMPT) ## fail if code is not formatted, and show how it should be
	@if ! diff=$$($(GOFUMPT) -d .) || [[ -n $$diff ]]; then echo "$$diff"; echo "run: make fmt" >&2; exit 1; fi

.PHONY: build-cgo
build-cgo: ## compile everything, with C
	CGO_ENABLED=1 go build ./...

.PHONY: build-nocgo
build-nocgo: ## compile everything, without C
	CGO_ENABLED=0 go build ./...

.PHONY: smoke
smoke: build ## have bin/graven, which is compiled otherwise than the tests are, append to pools and to logs
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; set -x; \
	$(BIN)/graven bench pmem --media pmem,volatile --pmem-dir $$dir --dir $$dir --baseline $$dir --rounds 1 --duration 20ms --ring 4MiB --open-ring 4MiB; \
	$(BIN)/graven bench log --dir $$dir --rounds 1 --duration 100ms

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: lint
lint: $(LINT) ## golangci-lint, built from tools/lint on first use
	$(LINT) run ./...

.PHONY: spec-lint
spec-lint: $(REDOCLY) ## lint the contract
	$(REDOCLY) lint --config tools/npm/redocly.yaml openapi/openapi.yaml

.PHONY: unit-short
unit-short: ## tests without the long ones
	go test -short ./...

.PHONY: unit
unit: $(GOTESTSUM) ## all tests, with the race detector, nothing skipped for want of a tool
	GRAVEN_REQUIRE=all $(GOTESTSUM) --format pkgname-and-test-fails --jsonfile $(TEST_JSON) -- \
		-race -count=1 -shuffle=on -timeout 25m ./...

.PHONY: fuzz-short
fuzz-short: ## every fuzz function for FUZZTIME
	@tools/fuzz $(FUZZTIME)

##### Tools

.PHONY: tools
tools: $(LINT) $(GOFUMPT) $(GOTESTSUM) $(REDOCLY) ## build or fetch every tool

$(LINT): tools/lint/go.mod
	@mkdir -p $(TOOLS)
	@echo "building golangci-lint $(LINT_VERSION), once: this takes minutes"
	cd tools/lint && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(GOFUMPT) $(GOTESTSUM) &: tools/go.mod
	@mkdir -p $(TOOLS)
	cd tools && go build -o $(TOOLS)/ mvdan.cc/gofumpt gotest.tools/gotestsum
	@touch $(GOFUMPT) $(GOTESTSUM)

$(REDOCLY): tools/npm/package-lock.json
	npm ci --prefix tools/npm --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
