# ovn-bgpd: `make` alone prints what there is.
# Everything runs as root on Debian 12 or newer; network tests stay inside namespaces and containers of their own.

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help deps build demo test lint advisories interop interop-sabotage interop-full bench bench-speaker bench-bfd bench-cloud soak properties fuzz faults kernel-tests

help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

deps: ## install from Debian's packages what is missing (root; otherwise say what)
	@interop/deps

build: ## the release binary: target/release/ovn-bgpd
	cargo build --release --locked

demo: deps build ## a port in OVN becomes a route on real leaves, step by step (KEEP=1 leaves it standing)
	@interop/run $(if $(KEEP),--keep) demo

test: deps ## unit, property, golden and whole-program tests
	cargo test --locked --workspace
	cargo test --locked -p bgp --no-default-features --lib
	@interop/run --self-test

lint: ## formatting, clippy with warnings as errors, licences by cargo deny if it is installed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; \
	else echo "lint: cargo-deny is not installed (cargo install --locked cargo-deny); licences were not checked"; fi

advisories: ## known faults of the crates used; needs cargo-deny and access to the RustSec database
	cargo deny check advisories

interop: deps build ## against FRR, BIRD, GoBGP, OpenBGPD, ExaBGP and OVN in containers
	@interop/run --jobs 6 --retry --table docs/interop.md

interop-sabotage: deps build ## break something on purpose on the wire or in the configuration: the right scenarios must fail
	@interop/run --jobs 3 --sabotage

interop-full: deps build ## the full product of the matrix
	@interop/run --jobs 2 --retry --full

bench: deps build ## the figures of docs/performance.md
	@interop/run bench

bench-speaker: ## the speaker alone: codec, memory, latency, a slow peer, a minute of churn beside a stalled peer; `cargo bench -p bgp` has more
	cargo run --release --locked -p bgp --example figures

bench-bfd: deps build ## BFD beside busy threads and a busy speaker for SECONDS_BFD (default 600), and 100 silent leaves; root
	@missed=0; \
	cargo run --release --locked -p bgp --example bfd_load -- $(or $(SECONDS_BFD),600) || missed=1; \
	interop/run bench bfd || missed=1; exit $$missed

faults: ## random faults and row changes on a real kernel, OVS and Northbound database, ROUNDS long (default 300; SEED repeats one); root
	FAULTS_ROUNDS=$(or $(ROUNDS),300) FAULTS_SEED=$(or $(SEED),$(shell date +%s)) \
	    cargo test --locked --test faults -- --nocapture

kernel-tests: ## the kernel's side against Debian's own kernel, in a virtual machine
	@OVN_BGPD_TESTS="$$(cargo test --locked -p ovn-bgpd --test kernel --test kernel_fib --no-run 2>&1 | sed -n 's/.*(\(.*deps.*\))$$/\1/p' | tr '\n' ' ')" \
	    interop/run kernel-tests

bench-cloud: deps build ## 100,000 ports, a gateway with 20,000 tenants, what many clients cost the server: into docs/performance.md; root
	@tests/cloud/run target/release/ovn-bgpd --write

soak: deps ## 1000 random row changes a second for SECONDS_SOAK (default 300) against a real database: state and memory
	SOAK_SECONDS=$(or $(SECONDS_SOAK),300) cargo test --release --locked --test soak -- --nocapture

properties: ## every property with CASES new random cases (default 10000), where make test takes 256
	PROPTEST_CASES=$(or $(CASES),10000) cargo test --locked --workspace --lib

fuzz: ## every fuzz target for SECONDS_EACH (default 600)
	@for target in bgp/fuzz/targets/*.rs tests/fuzz/targets/*.rs; do \
	    "$${target%/targets/*}/run" "$$(basename "$$target" .rs)" -max_total_time=$${SECONDS_EACH:-600} || exit 1; done
