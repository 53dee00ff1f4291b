# Mayfly. `make help` lists the targets.
SHELL   := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
DESTDIR ?=
PREFIX  ?= /usr/local
GO      ?= go
SIZES   ?= 30,100,300
.DEFAULT_GOAL := help
.PHONY: help run cluster-demo cluster-test test check bench torture build cross install fuzz sim

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

run: ## build, start an agent in a temporary directory and show a function at work; ARGS=--once ends by itself
	@test/setup.sh run
	@$(MAKE) --no-print-directory build
	@test/demo.sh $(ARGS)

test: ## vet and all tests, with the race detector; installs what they need
	test/setup.sh test
	test/test.sh

check: ## the gate: format, modernise, lint, shape, cross-builds, generated files, fuzz smoke; changes nothing
	test/setup.sh check
	test/check.sh

bench: build ## the numbers we hold, each beside its baseline; SHORT=1 takes a minute
	test/setup.sh test
	SHORT=$(SHORT) $(GO) run ./test/bench $(ARGS)

cluster-demo: ## three agents on this machine become one system; one is killed while readings flow; ARGS=--once ends by itself
	@test/setup.sh test
	@$(MAKE) --no-print-directory build
	@$(GO) build -o bin/clusterdemo ./test/clusterdemo
	@exec bin/clusterdemo --bin bin $(ARGS)

cluster-test: ## agents on hosts of their own, network namespaces on a switch that loses what it is told to; needs root; SHORT=1 takes minutes
	test/setup.sh hosts
	@$(MAKE) --no-print-directory build
	SHORT=$(SHORT) $(GO) run ./test/cluster $(ARGS)

sim: ## clusters of SIZES (30,100,300) nodes in virtual time, up to 100 of them whole agents, measured; 300 take minutes, 1000 half an hour
	$(GO) run ./test/sim -sizes $(SIZES)

torture: ## the delivery promises while everything breaks; MINUTES=1 a case, SHORT=1 a few minutes in all, ARGS='-only kill' or -mutants
	test/setup.sh test
	SHORT=$(SHORT) $(GO) run ./test/torture -minutes $(or $(MINUTES),1) $(ARGS)

build: ## bin/mayflyd, the agent, and bin/mayfly, the command line
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/mayflyd ./cmd/mayflyd
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/mayfly ./cmd/mayfly

cross: ## the agent for arm64, the command line for amd64, arm64 and 32-bit ARM, into bin/
	CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/mayflyd-arm64 ./cmd/mayflyd
	for arch in amd64 arm64 arm; do CGO_ENABLED=0 GOARCH=$$arch GOARM=7 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/mayfly-$$arch ./cmd/mayfly || exit; done

install: ## the programs, the systemd unit and a sample configuration, below DESTDIR and PREFIX; run make build before
	test/install.sh "$(DESTDIR)" "$(PREFIX)"

fuzz: ## every fuzz target for FUZZTIME (1m) each
	test/fuzz.sh $(or $(FUZZTIME),1m)
