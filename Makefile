# The front door. `make help` lists what there is; CI runs `make test` and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The lock file is part of what is tested. Warnings are errors in CI's clippy only, through an
# argument and not through RUSTFLAGS, so that nothing is built twice.
CARGO := cargo
LOCKED := --locked
DEPENDENCIES := deploy/install-dependencies.sh

# End-to-end tests wait for sockets, disks and a broker most of the time: more threads than cores.
E2E_THREADS ?= 6
# Tests with faults keep processors and brokers busy: fewer at once.
FAULT_THREADS ?= 3
DENY_VERSION := 0.20.2
DENY := target/tools/bin/cargo-deny
# Narrows `make e2e` and `make unit`: make e2e FILTER=turned_away
FILTER ?=

# The soak tries the program that ships; `make soak SOAK_PROFILE=dev` builds faster.
SOAK_PROFILE ?= bench

# Instructions are counted in the program that the tests build anyway; `bench` is the one that ships.
INSTRUCTIONS_PROFILE ?= dev

# What the shipped configuration refers to; any value will do for a check.
CHECK_ENV := AMQP_URL=amqp://127.0.0.1 GITHUB_WEBHOOK_SECRET=check-only STRIPE_WEBHOOK_SECRET=check-only \
	SHOPIFY_WEBHOOK_SECRET=check-only SLACK_SIGNING_SECRET=check-only ORDERS_SECRET=check-only

.PHONY: help demo providers build run test faults timing fuzz fmt check lint configs unit e2e doc deny instructions bench soak figures clean dependencies tools

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build, run a gateway on loopback, send it good and bad webhooks, show what became of each
	@$(DEPENDENCIES) build
	@echo "==> building (the first time takes some minutes)"
	@$(CARGO) build $(LOCKED)
	@target/debug/hookgate demo

build: ## build target/release/hookgate
	@$(DEPENDENCIES) build
	@$(CARGO) build $(LOCKED) --release

run: ## run the gateway with ./gateway.toml
	@$(CARGO) run $(LOCKED) --release -- run

test: dependencies tools ## everything that CI checks: format, lints, configurations, all tests
	@echo "==> format"
	@$(CARGO) fmt --all --check
	@$(MAKE) lint
	@$(MAKE) configs
	@$(MAKE) doc
	@echo "==> tests"
	@$(CARGO) test $(LOCKED) --lib
	@RUST_TEST_THREADS=$(E2E_THREADS) $(CARGO) test $(LOCKED) --test gateway -- --skip faults:: --skip timing:: --skip fuzz::
	@$(MAKE) instructions
	@$(MAKE) faults timing
	@$(MAKE) fuzz SECONDS=$(if $(RELEASE),1800,5)

faults: dependencies ## faults, attacks and hostile peers; RELEASE=1 for a release's counts
	@RUST_TEST_THREADS=$(FAULT_THREADS) $(CARGO) test $(LOCKED) --test gateway faults::$(FILTER)

timing: dependencies ## figures of time and memory, one at a time
	@RUST_TEST_THREADS=1 $(CARGO) test $(LOCKED) --test gateway timing::$(FILTER)

fuzz: dependencies ## parsers under a fuzzer; TARGET=name, SECONDS=60 for each; RELEASE=1 for 30 minutes
	@echo "==> fuzz targets"
	@FUZZ_TARGET="$(TARGET)" FUZZ_SECONDS=$(or $(SECONDS),$(if $(RELEASE),1800,60)) \
		$(CARGO) test $(LOCKED) --test gateway fuzz::

fmt: ## format the sources
	@$(CARGO) fmt --all

check: ## type-check and lint while working
	@$(CARGO) clippy --all-targets

lint: ## lint with warnings as errors
	@echo "==> lints"
	@$(CARGO) clippy $(LOCKED) --all-targets -- -D warnings

configs: ## hookgate check on the configurations that ship
	@echo "==> shipped configurations"
	@$(CARGO) build $(LOCKED)
	@for file in gateway.toml $$(find deploy -name '*.toml' 2>/dev/null | sort); do \
		echo "    $$file"; \
		$(CHECK_ENV) target/debug/hookgate check --config "$$file" >/dev/null; \
	done

unit: ## tests without services, in seconds
	@$(CARGO) test $(LOCKED) --lib $(FILTER)

e2e: dependencies ## the real program against a real broker; FILTER=name narrows it
	@RUST_TEST_THREADS=$(E2E_THREADS) $(CARGO) test $(LOCKED) --test gateway $(FILTER)

doc: ## the code's own documentation, with broken links as errors
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc $(LOCKED) --no-deps --document-private-items

deny: ## licences, sources and bans of dependencies, by cargo-deny (built once, in minutes)
	@test -x $(DENY) || $(CARGO) install --quiet --locked --root target/tools --version $(DENY_VERSION) cargo-deny
	@$(DENY) --offline --locked --workspace --config .deny.toml check bans licenses sources

instructions: dependencies ## what each stage takes for one event, against benches/INSTRUCTIONS.md; WRITE=1 keeps it
	@echo "==> instructions per event"
	@mkdir -p target/tmp
	@TMPDIR=$(CURDIR)/target/tmp $(CARGO) bench --quiet $(LOCKED) --profile $(INSTRUCTIONS_PROFILE) --bench instructions

bench: ## beside nginx, a bare publisher and what is written by hand; QUICK=1 in two minutes, PHASE=bare,backlog some of it, WRITE=1 keeps it
	@$(DEPENDENCIES) bench
	@mkdir -p target/tmp
	@test -n "$(filter-out 0,$(QUICK))" || \
		TMPDIR=$(CURDIR)/target/tmp $(CARGO) bench $(LOCKED) --bench pipeline -- --quick
	@TMPDIR=$(CURDIR)/target/tmp $(CARGO) bench $(LOCKED) --bench gateway

soak: ## load and faults for five minutes, SOAK=4h for a release: nothing acknowledged may be lost
	@$(DEPENDENCIES) test
	@mkdir -p target/tmp
	@TMPDIR=$(CURDIR)/target/tmp $(CARGO) bench $(LOCKED) --profile $(SOAK_PROFILE) --bench soak

providers: ## deploy/providers.md, from the providers' files
	@$(CARGO) run -q $(LOCKED) -- providers --markdown > deploy/providers.md.new
	@mv deploy/providers.md.new deploy/providers.md

figures: ## what the tests saw when they tried to break the promises; WRITE=1 keeps it in deploy/reliability.md
	@tests/figures.sh

clean: ## remove what was built
	@$(CARGO) clean

dependencies:
	@$(DEPENDENCIES) test

# A minimal Rust has neither; the demo does not need them, the checks do.
tools:
	@for tool in fmt clippy; do \
		if ! $(CARGO) $$tool --version >/dev/null 2>&1; then \
			echo "==> cargo $$tool is missing: rustup component add rustfmt clippy" >&2; exit 1; \
		fi; \
	done
