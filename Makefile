# The few commands of a developer; `make` lists them. Each sets up what it needs: as root it installs
# missing Debian packages, otherwise it names them.

CARGO ?= cargo
# The benchmark lives beside the project, since it measures others too.
BENCH ?= ../shared/bench/bench.py

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
binaries := -p dragoman -p dragoman-init
# What is shipped, where `make static` puts it.
shipped := $(target)/static
# The namespace tests run these, and build nothing themselves.
export DRAGOMAN_BIN_DIR := $(target)/debug
# They wait more than they compute, so that there may be more of them than cores.
export RUST_TEST_THREADS ?= 4

# Of `make bench`, and of `make soak`: for so many minutes, or until so many exchanges and flows were served.
ROUNDS ?= 5
MINUTES ?= 10
EXCHANGES ?= 0
FLOWS ?= 0

.PHONY: help build demo network test faults check fuzz bench soak instructions static image sbom pod-test

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):[a-z ]* ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build both binaries (debug)
	$(CARGO) build $(binaries)

demo: ## show an unchanged program on a bad server, without dragoman and with `dragoman run` before it
	@$(CARGO) build --quiet -p dragoman
	@scripts/demo

network: ## the same for more programs, in network namespaces and with measurements (root)
	@scripts/setup
	@$(MAKE) --no-print-directory build
	@scripts/demo-network

test: ## run all tests, those in network namespaces too (root)
	@scripts/setup
	@scripts/setup-tests
	$(CARGO) build $(binaries)
	$(CARGO) test --workspace --no-fail-fast

faults: ## bring about each fault of docs/faults.md, and print when the application knew (root)
	@scripts/setup
	$(CARGO) build $(binaries)
	$(CARGO) test -p dragoman-harness --test faults -- --show-output

check: ## format, lints, dependencies, docs, that each cause has a test, and counts of instructions
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; else scripts/check-deps; fi
	@# Read by developers, with private items: a link to one leads somewhere.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' \
		$(CARGO) doc --workspace --no-deps --document-private-items
	scripts/check-causes
	scripts/check-promises
	@$(MAKE) --no-print-directory instructions

fuzz: ## run each fuzz target for a minute; FUZZ_SECONDS=600 for ten
	@fuzz/runner.py

bench: static ## measure what is shipped beside its peers, into docs/benchmarks.md (root); ROUNDS=5, BENCH=path/to/bench.py
	@scripts/bench --bench '$(BENCH)' --rounds $(ROUNDS) --binary $(shipped)/dragoman

soak: static ## load what is shipped with everything at once, and compare end and start (root); MINUTES=10, or EXCHANGES=n FLOWS=n
	@scripts/setup
	@scripts/setup-tests
	@soak/runner.py --binaries $(shipped) --out $(target)/soak --minutes $(MINUTES) --exchanges $(EXCHANGES) --flows $(FLOWS)

instructions: ## count the instructions of the hot functions, and compare with benches/instructions.toml; UPDATE=1 renews it
	@scripts/setup
	@scripts/instructions $(if $(UPDATE),--update)

static: ## build both binaries as they are shipped: static, stripped, whole-program optimised; check sizes and that they work
	@scripts/build-static $(shipped)
	@scripts/check-static $(shipped)

image: ## build the container image and check it; LOCAL=1 of binaries built here, BUILDER=image to build in, IMAGE=name:tag, ENGINE=podman, STORE=folder, ARCHIVE=file
	@scripts/image --run $(if $(LOCAL),--local) $(if $(BUILDER),--builder '$(BUILDER)') $(if $(IMAGE),--name '$(IMAGE)') \
		$(if $(ENGINE),--engine '$(ENGINE)') $(if $(STORE),--store '$(STORE)') $(if $(ARCHIVE),--archive '$(ARCHIVE)')

pod-test: ## play injected pods on podman, with the image that is shipped (root)
	@scripts/setup
	@set -e; store=$$(mktemp -d); trap 'rm -rf "$$store"' EXIT; \
	$(MAKE) --no-print-directory image LOCAL=1 STORE="$$store/images" ARCHIVE="$$store/image.tar"; \
	echo "pod-test: the cases of tests/cases/pod, with that image"; \
	DRAGOMAN_IMAGE_ARCHIVE="$$store/image.tar" DRAGOMAN_BIN_DIR=$(shipped) $(CARGO) test -p dragoman-harness --test pod

sbom: ## write the software bill of materials of what is shipped (CycloneDX)
	@scripts/sbom
