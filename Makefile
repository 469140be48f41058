# The few commands of a developer; `make` lists them. Each sets up what it needs: as root it installs
# missing Debian packages, otherwise it names them.

CARGO ?= cargo
# The benchmark lives beside the project, since it measures others too.
BENCH ?= ../shared/bench/bench.py
MUSL := x86_64-unknown-linux-musl

target := $(abspath $(or $(CARGO_TARGET_DIR),target))
binaries := -p dragoman -p dragoman-init
# The namespace tests run these, and build nothing themselves.
export DRAGOMAN_BIN_DIR := $(target)/debug
# They wait more than they compute, so that there may be more of them than cores.
export RUST_TEST_THREADS ?= 4

.PHONY: help build demo test faults check fuzz bench static

help: ## list these commands
	@sed -n 's/^\([a-z]*\): ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## build both binaries (debug)
	$(CARGO) build $(binaries)

demo: ## show unchanged programs on a bad network, without dragoman and with it (root)
	@scripts/setup
	@$(MAKE) --no-print-directory build
	@scripts/demo

test: ## run all tests, those in network namespaces too (root)
	@scripts/setup
	@scripts/setup-tests
	$(CARGO) build $(binaries)
	$(CARGO) test --workspace --no-fail-fast

faults: ## bring about each fault of docs/faults.md, and print when the application knew (root)
	@scripts/setup
	$(CARGO) build $(binaries)
	$(CARGO) test -p dragoman-harness --test faults -- --show-output

check: ## format, lints, dependencies, docs, and that each cause has a test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; else scripts/check-deps; fi
	@# Read by developers, with private items: a link to one leads somewhere.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' \
		$(CARGO) doc --workspace --no-deps --document-private-items
	scripts/check-causes
	scripts/check-promises

fuzz: ## run each fuzz target for a minute; FUZZ_SECONDS=600 for ten
	@fuzz/runner.py

bench: ## measure the release build beside no proxy (root); BENCH=path/to/bench.py
	@test -f $(BENCH) || { echo "bench: no $(BENCH); say where it is: make bench BENCH=path/to/bench.py" >&2; exit 1; }
	$(CARGO) build --release $(binaries)
	python3 $(BENCH) --peers direct --subject dragoman-1 \
		--cmd '$(target)/release/dragoman proxy --config $(CURDIR)/deploy/policies/normal.toml'

static: ## build both binaries (release) without shared libraries, and print their sizes
	@set -e; if [ -d "$$(rustc --print target-libdir --target $(MUSL))" ]; then \
		triple=$(MUSL); \
	else \
		triple=$$(rustc -vV | sed -n 's/^host: //p'); \
		echo "static: the target $(MUSL) is not installed (rustup target add $(MUSL)); linking glibc statically"; \
	fi; \
	export RUSTFLAGS="$$RUSTFLAGS -C target-feature=+crt-static"; \
	$(CARGO) build --release --target $$triple -p dragoman; \
	$(CARGO) build --profile small --target $$triple -p dragoman-init; \
	cd $(target)/$$triple && ls -l release/dragoman small/dragoman-init | \
		awk '{ printf "%-24s %.2f MiB\n", $$NF, $$5 / 1048576 }'
