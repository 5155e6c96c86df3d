# TaskBridge for Fiber. `make help` lists the targets.
# Nested modules keep heavy dependencies of tests and examples away from
# those who import the library; every target below knows them all.

GO       ?= go
BIN      := $(CURDIR)/.cache/bin
LINT     := $(BIN)/golangci-lint
# Pinned, so that a new version's opinions arrive on purpose.
LINT_VERSION := v2.15.0
MODULES  := . adapters/jsonschema fiberbridge/middlewaretest protocol/conformance protocol/generators protocol/readers examples/jwt examples/e2e bench/gate
VULNS    := $(BIN)/govulncheck
VULNS_VERSION := v1.9.0
FUZZTIME ?= 20s
ADDR     ?= 127.0.0.1:8080

.DEFAULT_GOAL := help
.PHONY: help run test quick unit conformance generators readers e2e race bench bench-once bench-curve bench-redis loadtest lint vulns licences fuzz tidy deps

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start the demo host on the embedded store; prints a URL whose page works.
	@$(GO) build -o $(BIN)/quickstart ./examples/quickstart
	@$(BIN)/quickstart -addr $(ADDR)

# They go on after what fails, and sum up at the end.
UNIT := library middleware jwt jsonschema gate

test: deps ## Everything: the library, its contract through real sockets, browser and proxy.
	@GO='$(GO)' .ci/test $(UNIT) conformance generators readers e2e

quick: ## What needs no browser and no Redis, with -short.
	@GO='$(GO)' .ci/test quick

unit: ## The library's own tests, its tests behind Fiber's middleware, and the examples'.
	@GO='$(GO)' .ci/test $(UNIT)

conformance: ## The wire contract, black box, against the demo host.
	@GO='$(GO)' .ci/test conformance

generators: deps ## Clients generated from the OpenAPI document: compiled, and run against a host.
	@GO='$(GO)' .ci/test generators

readers: deps ## SSE readers and connection pools that others wrote, in Go, Node and Python.
	@GO='$(GO)' .ci/test readers

e2e: deps ## The page in real Chromium; SSE and WebSocket through a real nginx.
	@GO='$(GO)' .ci/test e2e

race: ## The library's tests under the race detector.
	$(GO) test -race -shuffle=on -timeout 60m ./...

# What make bench compares with (empty: where this branch left main, or the last
# commit, or the last tag), which benchmarks, how often and how long each.
BASE      ?=
BENCH     ?= .
COUNT     ?= 6
BENCHTIME ?= 200ms
bench: ## The working tree against BASE, in turns: a benchstat table; 1: something got worse, 3: too noisy to tell.
	@cd bench/gate && $(GO) build -o $(BIN)/benchgate .
	@$(BIN)/benchgate -base '$(BASE)' -bench '$(BENCH)' -count $(COUNT) -benchtime $(BENCHTIME) $(ARGS)

bench-once: ## Every benchmark once, to see that it runs; its figures mean nothing.
	$(GO) test ./bench -count=1 -run '^$$' -bench . -benchtime 1x

bench-curve: ## CPU per delivery against latency over flush intervals, as Markdown; about five minutes.
	@$(GO) run ./bench/curve $(ARGS)

bench-redis: ## The store on Redis against what one would do without it: tables, in about two minutes.
	$(GO) test ./bench -count=1 -run 'TestTail|TestBurst|TestIdle' -compare -v

SCENARIO ?= fan-out
loadtest: ## Thousands of real subscribers against the demo host: SCENARIO=fan-out|many|..., ARGS for more flags.
	$(GO) run ./loadtest -scenario $(SCENARIO) $(ARGS)

lint: $(LINT) ## go vet, gofmt and golangci-lint on every module, and a build for other systems.
	@for m in $(MODULES); do echo "lint $$m"; (cd $$m && $(GO) vet ./... && $(LINT) run --config $(CURDIR)/.golangci.yml ./...) || exit 1; done
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	@cd .ci/licences && $(GO) build -o $(BIN)/licences .
	@$(BIN)/licences $(MODULES)

vulns: $(VULNS) ## Known vulnerabilities that code of ours reaches, in every module.
	@.ci/vulns $(VULNS) $(MODULES)

licences: ## Write docs/licences.md: every dependency and its licence.
	@cd .ci/licences && $(GO) build -o $(BIN)/licences .
	@$(BIN)/licences -write $(MODULES)

fuzz: ## Every fuzz target for FUZZTIME (20s) each.
	@.ci/fuzz $(FUZZTIME)

tidy: ## go mod tidy in every module.
	@for m in $(MODULES); do (cd $$m && $(GO) mod tidy) || exit 1; done

deps: ## Install what the tests need besides Go (as root on Debian), or say what is missing.
	@.ci/deps

$(LINT):
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

$(VULNS):
	GOBIN=$(BIN) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(VULNS_VERSION)
