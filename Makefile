# `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOLS := $(CURDIR)/.tools

# If rustup may not download the version in rust-toolchain.toml, use a default toolchain of that version.
ifeq ($(RUSTUP_AUTO_INSTALL),0)
ifndef RUSTUP_TOOLCHAIN
DEFAULT_TOOLCHAIN := $(shell tools/default-toolchain)
ifneq ($(DEFAULT_TOOLCHAIN),)
export RUSTUP_TOOLCHAIN := $(DEFAULT_TOOLCHAIN)
endif
endif
endif

# Prints a line with the time in front.
SAY := printf '%(%H:%M:%S)T  %s\n' -1

# The demo's guests. The tests use more, and two of them also as core modules, which the relay turns into components itself.
EXAMPLES := $(addprefix -p ,orders orders-next notifications telemetry)
COMPONENTS := $(EXAMPLES) -p order-updates -p pass-through -p unruly -p crates-that-work -p bench-guest
CORE_MODULES := -p orders -p unruly
# Each one is a folder in examples/languages with an executable `build`.
LANGUAGES := js python go c

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## an order board on real servers, which changes when its module is swapped (DEMO_SECONDS=20 ends by itself)
	@[[ -x $${CARGO_TARGET_DIR:-target}/debug/slipring-demo ]] || \
	$(SAY) "The first time, this compiles two servers and the relay: about 10 minutes on two cores. Later it takes seconds."
	@$(SAY) "Step 1 of 3: nats-server and Centrifugo, with Go"
	@$(MAKE) --no-print-directory servers
	@$(SAY) "Step 2 of 3: the example modules, as WebAssembly"
	cargo build --release --target wasm32-wasip2 $(EXAMPLES)
	@$(SAY) "Step 3 of 3: the relay and the demo, some 380 crates the first time (the longest step)"
	cargo build --workspace --no-default-features --bin slipring --bin slipring-demo
	@$(SAY) "Done. Here is the demo:"
	@$${CARGO_TARGET_DIR:-target}/debug/slipring-demo

.PHONY: check
check: prerequisites ## before each commit: format, clippy, the core's tests, 10 s of simulation (a minute once all is compiled)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test -p slipring-core
	SIM_SECONDS=10 cargo test -p slipring-sim report::as_many

.PHONY: test
# The tests wait for servers most of the time, so there are twice as many at once as processors. A test that fails shows its errors
# with their causes; where in the code each one was made would only hide them.
test: tools guests ## the test suite, the documentation's examples too, against real servers
	RUST_LIB_BACKTRACE=$${RUST_LIB_BACKTRACE:-0} RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))} cargo test --workspace

.PHONY: nightly
nightly: SECONDS := 600
nightly: tools guests ## what takes too long for each commit: simulation, mutants, metrics, languages, outages, chaos, fuzzing (SECONDS=600)
	@export SIM_BASE=$$(date +%Y%m%d000000); failed=; \
	for step in "sim SECONDS=$(SECONDS)" mutants relay-mutants test-metrics test-languages outage "chaos SECONDS=$(SECONDS)" \
	    "fuzz SECONDS=$(SECONDS)"; do \
	    $(SAY) "make $$step"; \
	    $(MAKE) --no-print-directory $$step || failed+=" $${step%% *}"; \
	done; \
	[[ -z $$failed ]] || { echo "failed:$$failed" >&2; exit 1; }

# SECONDS comes from the command line, `make sim SECONDS=600`. Neither `$$SECONDS` in a recipe nor `?=` would work: both read the
# environment, where bash counts the seconds of its own run.
.PHONY: sim
sim: SECONDS := 60
sim: prerequisites ## whole pipelines under simulated faults, as many as fit (SECONDS=600; SIM_BASE=1 is the first seed)
	SIM_SECONDS=$(SECONDS) cargo test -p slipring-sim report::as_many -- --nocapture

.PHONY: fuzz
fuzz: SECONDS := 60
fuzz: prerequisites ## what comes from outside, made up by libFuzzer (SECONDS=600 for each target, TARGETS="replies"; needs a C++ compiler)
	@tools/fuzz $(SECONDS) $(TARGETS)

.PHONY: mutants
mutants: prerequisites ## puts known bugs into a copy of the core, and shows what the simulator says to each (MUTANTS="two-in-flight")
	@tools/mutants $(MUTANTS)

.PHONY: relay-mutants
relay-mutants: tools guests ## puts known bugs into the relay of this tree, and shows which test notices (MUTANTS="here-overtakes")
	@tools/relay-mutants $(MUTANTS)

.PHONY: cargo-mutants
cargo-mutants: prerequisites $(TOOLS)/bin/cargo-mutants ## every small change to the core, one after the other: which do the tests not notice? (SHARD=0/8; hours)
	@tools/cargo-mutants $(if $(SHARD),--shard $(SHARD))

.PHONY: test-clients
test-clients: tools guests ## what Centrifugo's JavaScript client receives (needs Node.js)
	@command -v npm >/dev/null || { echo "Node.js 20 or later is needed for the clients' test: https://nodejs.org" >&2; exit 1; }
	cd tests/clients && npm ci --ignore-scripts --no-audit --no-fund
	cargo test --workspace --test it --test clients -- --ignored javascript_client

.PHONY: check-page
check-page: ## the operator's page: its sources, its tests, and that src/admin/page is what they make (needs Node.js)
	@command -v npm >/dev/null || { echo "Node.js 20 or later is needed to build the page: https://nodejs.org" >&2; exit 1; }
	cd ui && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm test && npm run build
	@git diff --exit-code -- src/admin/page || { echo "src/admin/page is not what ui/ makes: commit what was built now" >&2; exit 1; }

.PHONY: test-page
test-page: tools guests ## the operator's page in a real browser (needs Node.js, and apt-get or Chromium; PAGE_HEAP_SECONDS=600)
	@command -v npm >/dev/null || { echo "Node.js 20 or later is needed for the page's test: https://nodejs.org" >&2; exit 1; }
	@tools/install-chromium
	cd tests/page && npm ci --ignore-scripts --no-audit --no-fund
	RUST_LIB_BACKTRACE=$${RUST_LIB_BACKTRACE:-0} cargo test --workspace --test it page:: -- --ignored --nocapture --test-threads 1 --skip page::pictures

.PHONY: page-shots
page-shots: tools guests ## the pictures of the page in the manual (PAGE_SHOTS=DIRECTORY; a quarter of an hour)
	@tools/install-chromium
	cd tests/page && npm ci --ignore-scripts --no-audit --no-fund
	TEST_TIMEOUT_SECONDS=1800 PAGE_SHOTS="$(abspath $(or $(PAGE_SHOTS),docs/operating/page))" cargo test --workspace --test it page::pictures -- --ignored --nocapture

.PHONY: test-valkey
test-valkey: tools guests ## the tests with Redis, on Valkey (needs Python)
	@tools/install-valkey
	REDIS_SERVER=valkey-server cargo test --workspace --lib redis::
	REDIS_SERVER=valkey-server cargo test --workspace --test it sources::

.PHONY: test-metrics
test-metrics: tools guests ## the dashboard and the alert rules, with a real Prometheus (needs apt-get)
	@tools/install-prometheus
	cargo test --workspace --test it prometheus -- --ignored

.PHONY: test-languages
test-languages: tools guests languages ## modules in JavaScript, Python, Go and C do what those in Rust do (needs Node.js and Python)
	cd examples/languages/go && go vet ./... && GOOS=wasip1 GOARCH=wasm go vet ./... && go test ./...
	cargo test --workspace --test it languages -- --ignored

# Each build fetches the tools of its language into its own folder.
.PHONY: languages
languages: $(LANGUAGES:%=examples/languages/%/orders.wasm)

.PHONY: $(LANGUAGES:%=examples/languages/%/orders.wasm)
$(LANGUAGES:%=examples/languages/%/orders.wasm):
	@$(@D)/build

.PHONY: take-over
take-over: tools guests ## how long a second relay takes when the active one is killed (KILLS=10)
	TEST_TIMEOUT_SECONDS=$$((900 + 60 * $(or $(KILLS),10))) KILLS=$(or $(KILLS),10) cargo test --workspace --test it -- --ignored --nocapture takeover_times

.PHONY: chaos
chaos: SECONDS := 120
chaos: tools guests ## kill, cut and stall everything at random for a while (SECONDS=120, SEED=a number)
	TEST_TIMEOUT_SECONDS=$$(($(SECONDS) + 900)) CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) cargo test --workspace --test it chaos -- --nocapture

.PHONY: outage
outage: SECONDS := 360
outage: tools guests ## a long outage of Centrifugo with 50,000 messages waiting (SECONDS=360)
	TEST_TIMEOUT_SECONDS=$$(($(SECONDS) + 900)) OUTAGE_SECONDS=$(SECONDS) cargo test --workspace --test it a_long_outage -- --ignored --nocapture

.PHONY: neighbour
neighbour: SECONDS := 10
neighbour: tools guests ## how late a module's messages are beside each bad thing (SECONDS=10, ROUNDS=3, ONLY=channels, RELAY=target/release/slipring)
	TEST_TIMEOUT_SECONDS=$$((900 + 60 * $(SECONDS) * $(or $(ROUNDS),3))) NEIGHBOUR_SECONDS=$(SECONDS) NEIGHBOUR_ROUNDS=$(ROUNDS) NEIGHBOUR_ONLY="$(ONLY)" RELAY="$(abspath $(RELAY))" cargo test --workspace --test it how_late_a_neighbour_is -- --ignored --nocapture

.PHONY: bench
bench: tools guests ## every way side by side, measured (BENCH="throughput --rounds 1 --json FILE --plot FILE"; 40 minutes as it is)
	@bench/bento/install
	cargo build --release --workspace --bins
	target/release/slipring-bench $(BENCH)

# Uses `--workspace`, like all targets. Otherwise cargo would rebuild the dependencies with fewer features.
.PHONY: bench-pieces
bench-pieces: guests ## scheduler, window, one transform call and so on, each alone, compared with the run before (PIECES=scheduler)
	cargo bench --workspace --bench pieces -- $(PIECES)

.PHONY: bench-languages
bench-languages: guests languages ## what a module costs in each language: the table of examples/languages/README.md
	cargo bench --workspace --bench languages

.PHONY: lint
lint: prerequisites $(TOOLS)/bin/cargo-deny $(TOOLS)/bin/typos ## formatting, spelling, Markdown, clippy, documentation, crates compiled twice, licences
	cargo fmt --all --check
	$(TOOLS)/bin/typos
	@tools/markdown
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p slipring --no-default-features -- -D warnings
	cargo clippy --target wasm32-wasip2 $(COMPONENTS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@tools/compiled-twice
	$(TOOLS)/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	$(TOOLS)/bin/cargo-deny --locked --manifest-path crates/core/Cargo.toml check --hide-inclusion-graph bans

# Not part of `lint`: the database of advisories comes from the network and changes independently, so a commit that passed
# yesterday could fail today.
.PHONY: audit
audit: prerequisites $(TOOLS)/bin/cargo-deny ## known vulnerabilities of the dependencies (asks the network)
	$(TOOLS)/bin/cargo-deny --locked check advisories

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: pass-through
pass-through: prerequisites ## the ready module of `slipring new --pass-through`, from examples/pass-through
	RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo --remap-path-prefix=$(CURDIR)=/slipring --remap-path-prefix=$$(rustc --print sysroot)=/rust -C strip=symbols" \
	CARGO_TARGET_DIR=target/pass-through cargo build --release --target wasm32-wasip2 -p pass-through
	cp target/pass-through/wasm32-wasip2/release/pass_through.wasm examples/pass-through/pass-through.wasm
	sha256sum examples/pass-through/src/lib.rs | cut -d' ' -f1 > examples/pass-through/built-from

.PHONY: packages
packages: servers ## a static tarball and a .deb in target/packages, tried in a clean folder (PACKAGES_PROFILE=dev is faster; needs jq)
	@rustup target list --installed | grep -qx $$(uname -m)-unknown-linux-musl || rustup target add $$(uname -m)-unknown-linux-musl
	@tools/install-musl
	@$(SAY) "Building the static program (the longest step; 10 to 20 minutes on two cores)"
	@tools/packages/build $(or $(PACKAGES_PROFILE),release)
	@tools/packages/try

.PHONY: guests
guests: prerequisites ## the guests, as WebAssembly
	cargo build --release --target wasm32-wasip2 $(COMPONENTS)
	cargo build --release --target wasm32-unknown-unknown $(CORE_MODULES)

.PHONY: tools
tools: servers ## what the tests start: nats-server (older ones, too), Centrifugo, Redis and jq in .tools
	@tools/install-older-nats
	@tools/install-redis
# The manual's pages use `curl` and `jq`.
	@command -v curl >/dev/null || { echo "curl is needed by the test of the manual: https://curl.se" >&2; exit 1; }
	@command -v jq >/dev/null || $(MAKE) --no-print-directory $(TOOLS)/bin/jq

.PHONY: servers
servers: prerequisites
	@tools/install

# If rustup may install the toolchain, the first `rustc` makes it do so.
.PHONY: prerequisites
prerequisites:
	@command -v cargo >/dev/null && command -v rustup >/dev/null || { echo "cargo and rustup are needed: https://rustup.rs" >&2; exit 1; }
	@rustc --version >/dev/null
	@for target in wasm32-wasip2 wasm32-unknown-unknown; do \
	    rustup target list --installed | grep -qx $$target || rustup target add $$target; \
	done

# Programs from crates.io, at exact versions. They are not optimised, which would take longer than they ever run, and have no debug
# information.
$(TOOLS)/bin/cargo-deny: CRATE := cargo-deny@0.20.2
$(TOOLS)/bin/cargo-mutants: CRATE := cargo-mutants@27.1.0
$(TOOLS)/bin/typos: CRATE := typos-cli@1.52.0
$(TOOLS)/bin/jaq: CRATE := jaq@3.1.2 --no-default-features

$(addprefix $(TOOLS)/bin/,cargo-deny cargo-mutants typos jaq): Makefile
	@$@ --version 2>/dev/null | grep -qxF "$(subst @, ,$(firstword $(CRATE)))" || \
	CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug --root $(TOOLS) $(CRATE)
	@touch $@

# jaq keeps the order of an object's keys, like jq.
$(TOOLS)/bin/jq: $(TOOLS)/bin/jaq
	@ln -sf jaq $@
