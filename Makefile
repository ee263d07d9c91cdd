# Everything runs on a virtualenv that `make setup` makes. All targets may be run again; none leaves anything running.
# Of another Python, in another place: make check PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Those that `make pythons` uses.
PYTHONS ?= python3.11 python3.12 python3.13
BENCHES := startup submit munge gateway haproxy bulkheads puppet_run journal retention stalled sync

.PHONY: setup demo check pythons test prepared matrix lint docs partitions soak bench dist deb lock clean

setup: $(VENV)/ready

$(VENV)/ready: setup.cfg pyproject.toml
	@# Debian keeps venv's pip apart, in a package of its own; its smallest systems have no Python at all.
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -q && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv; }
	$(PYTHON) -c 'import sys; sys.exit("pdbclient needs Python 3.11 or later") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	@# LOWEST=1: the lowest versions that setup.cfg allows, instead of the newest.
	$(if $(LOWEST),$(BIN)/python .ci/tools/lowest.py >$(VENV)/lowest.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,docs]' \
		$(if $(LOWEST),--constraint $(VENV)/lowest.txt)
	@touch $@

# The main job as a story, on a real pair of PuppetDBs; installs them first where they are missing (as root).
demo: setup
	@$(BIN)/pdbclient lab install
	@$(BIN)/pdbclient demo

# While you work: style, types, unit tests and scenarios. No root, no server; the same examples in every run.
# Their files are in memory: a disk makes half of the seconds, and is tested where it fails (tests/faults).
check: lint
	@memory=$$(mktemp -d -p $(or $(wildcard /dev/shm),/tmp) pdbclient-check-XXXXXX); \
	trap 'rm -rf "$$memory"' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	PYTEST_DEBUG_TEMPROOT=$$memory $(BIN)/pytest -n auto --dist worksteal -m 'not slow' \
		-o tmp_path_retention_policy=failed tests/unit tests/scenarios

# The same on each Python that setup.cfg names, and on the lowest versions of all dependencies that it allows.
pythons:
	@for python in $(PYTHONS); do command -v $$python >/dev/null || { echo "no $$python here" >&2; exit 1; }; done
	set -e; for python in $(PYTHONS); do \
		$(MAKE) check PYTHON=$$python VENV=.venv-$${python##*/}; done
	$(MAKE) check PYTHON=$(firstword $(PYTHONS)) VENV=.venv-lowest LOWEST=1

# Everything: style, types, unit, scenario, fault and integration tests, the last on a real pair.
test: setup
	@# Types take one processor, and packages the network.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint prepared
	@# Three processes, each with a real pair of its own, for which it waits a lot; the long files first.
	tests/contained $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m 'not partitions'
	@# A site for each arrangement of the journal, both at once and by themselves: how long requests take is judged.
	tests/contained $(BIN)/pytest -n 2 tests/partitions/test_partitions.py

prepared: setup
	@$(BIN)/pdbclient lab install
	@tests/install-packages

# All tests with servers on all releases of PuppetDB that they know, each alone, and in pairs both ways: hours. With
# PAIRS="8.8.1+7.12.1 8.8.1+8.8.1", on these (primary+replica) only.
matrix: prepared
	PDBCLIENT_MATRIX="$(or $(PAIRS),all)" tests/contained $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder tests/integration

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, into build/docs. Warnings are errors; links and anchors are checked.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file .ci/mkdocs.yml

# Hosts on a network that breaks by a random schedule, under work whose history is checked; as root, on real servers.
# With FLAGS="--arrangement sqlite --only cut,stop --html report.html", and others: python -m tests.partitions --help.
SEED ?= 1
MINUTES ?= 10
partitions: setup
	@$(BIN)/pdbclient lab install
	@tests/install-packages iproute2 nftables haproxy
	$(BIN)/python -m tests.partitions --seed $(SEED) --minutes $(MINUTES) $(FLAGS)

# The long form of the tests that have one, with what they count: well over an hour.
soak: setup
	@$(BIN)/pdbclient lab install
	@tests/install-packages systemd-container
	PDBCLIENT_SOAK=1 $(BIN)/pytest -m soak -s
	@# Properties on examples that no run has seen before.
	PDBCLIENT_SOAK=1 $(BIN)/pytest -n 2 -m 'not soak' tests/unit

# Each benchmark ends with one JSON line and fails when it misses its figure. BENCH_FLAGS=--quick: a few minutes.
bench: setup
	@$(BIN)/pdbclient lab install
	@tests/install-packages nginx-light haproxy
	@set -e; for bench in $(BENCHES); do echo "$$bench"; $(BIN)/python -m tests.bench.$$bench $(BENCH_FLAGS); done

# Wheel and sdist in dist/, with the man page and the completions, which are made from the command line's parser.
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
dist: setup
	rm -rf build dist share
	PYTHONPATH=.ci $(BIN)/python -m tools.command_line share
	$(BIN)/python -m build $(BUILD_FLAGS) --outdir dist
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

# A package for each of these releases of Debian, in dist/ too: made on a fresh one, with the wheel, as root.
SUITES ?= bookworm trixie
deb: dist
	set -e; for suite in $(SUITES); do tests/on-debian $$suite --dist dist -- .ci/tools/build-deb; done

# The libraries that the packages for Debian bring: their newest versions, with hashes. Once for each release.
lock: setup
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --extra postgresql --strip-extras --allow-unsafe \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file .ci/debian/requirements.txt setup.cfg

clean:
	rm -rf .venv .venv-* build dist share *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
