# Tool versions are pinned here, and nowhere else.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

FUZZTIME ?= 60s
BENCHTIME ?= 1s

.DEFAULT_GOAL := help
.PHONY: help run build test test-deps soak lint bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## run a node with a page to try it out with, on localhost (no Redis needed)
	bin/node --listen localhost:8080 --demo --drain-delay 0s --drain-duration 0s

build: ## build the node into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/node ./cmd/node

test: test-deps ## install what the tests need, or say what is missing; then run all tests
	go vet ./... ./test/...
	go test -race -timeout 15m ./... ./test/...

test-deps:
	@scripts/test-deps

soak: test-deps ## the tests' full rounds, fuzzing, and the mutations (about half an hour)
	HELIOGRAPH_SOAK=1 go test -race -count=1 -timeout 60m ./... ./test/...
	scripts/fuzz $(FUZZTIME)
	go run ./test/mutations

lint: ## formatting, vet, staticcheck, known vulnerabilities
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./... ./test/...
	go run $(STATICCHECK) ./... ./test/...
	go run $(GOLANGCI) run ./...
	cd test && go run $(GOLANGCI) run ./...
	scripts/vulncheck $(GOVULNCHECK)

bench: ## benchmarks with allocations, and a short load test
	go test -run '^$$' -bench . -benchtime $(BENCHTIME) -benchmem ./pkg/...
	go run ./loadtest -self
