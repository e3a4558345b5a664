# Everything a person or CI runs. `make test` and `make demo` set up what they need.

.PHONY: help setup build lint test check demo bench soak

CARGO ?= cargo
# Two at a time: each test of the whole program runs several etcd members of its own.
TEST_THREADS ?= 2
# How long random histories are made on real clusters by `make soak`, beside what it does anyway.
MINUTES ?= 10

help:
	@echo "make demo    replicate a real etcd cluster into another one, and watch it"
	@echo "make test    all tests, on real etcd 3.4, 3.5, 3.6 and 3.7"
	@echo "make check   formatting, clippy, documentation and tests"
	@echo "make bench   this program beside etcdctl make-mirror, in one run"
	@echo "make soak    what a learner costs its primary, kills and losses by the hundred, and"
	@echo "             MINUTES=$(MINUTES) of random histories"
	@echo "make build   the release binary, target/release/etcd-syncer"

setup:
	@tests/setup.sh

build:
	@tests/setup.sh build
	$(CARGO) build --release

lint:
	@tests/setup.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --test demo --test bench --test soak -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

test: setup
	$(CARGO) test --no-fail-fast -- --test-threads=$(TEST_THREADS)

check: lint test

demo: setup
	$(CARGO) test --release --test demo

bench: setup
	$(CARGO) test --release --test bench

soak: setup
	$(CARGO) test --release --test soak -- --test-threads=1 --nocapture
	ETCD_SYNCER_TEST_LOSSES=20 \
	  $(CARGO) test --release --test e2e replay::lost -- --test-threads=1 --nocapture
	ETCD_SYNCER_TEST_MINUTES=$(MINUTES) \
	  $(CARGO) test --release --test histories random -- --test-threads=1 --nocapture
