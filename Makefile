# `make demo` and `make test` set up what they need.
PYTHON ?= python3

# Compiled modules are kept, whatever the environment says: the tests start hundreds of processes
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# What CI adds: coverage, and the slowest tests
OPTIONS ?=

# How many seeds of generated faults `make test-long` runs: about a second of CPU each
GENERATED ?= 5000

# How many examples of foreign bytes it draws: 16 ms of CPU each
FUZZ ?= 200000

# Which environment `make deploy`, `destroy`, `bootstrap` and `password` are for; more words for them in OPTIONS: --dry-run, --yes
ENV ?= dev

.PHONY: setup demo demo-aws trino test test-slow test-long ui check wheel image image-of-wheel docs benchmark lock advisories newest checkov deploy destroy bootstrap password

setup: .venv/.runtime

.venv/.runtime: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lakehouse needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# An environment beside .venv for what pins other versions than the project does: a dependency group of its name
.venv/.%: .venv/.tools requirements-%.txt
	$(PYTHON) -m venv .venv/$*
	.venv/tools/bin/uv pip install --quiet --python .venv/$*/bin/python --require-hashes -r requirements-$*.txt
	@touch $@

demo: setup
	$(BIN)/lakehouse demo

demo-aws: .venv/.dev trino
	$(BIN)/lakehouse demo --aws --folder demo-aws

# Trino's server out of Maven's artifacts, and a Java that it runs on: for `make demo-aws` and the tests that ask it
trino: .venv/.dev
	@if command -v mvn >/dev/null; then $(MAKE) --no-print-directory .venv/.trino-server; else echo "There is no mvn (Debian: maven), so no Trino server: what asks it does without."; fi

.venv/.trino-server: .venv/.trino infra/trino/pom.xml
	rm -rf .venv/trino/server .venv/trino/unpacking
	mvn --batch-mode --no-transfer-progress --quiet --file infra/trino/pom.xml package -Dtrino.home=$(CURDIR)/.venv/trino/unpacking
	mv .venv/trino/unpacking .venv/trino/server
	@touch $@

test: .venv/.dev
	$(BIN)/pytest -n 2 -m "not slow" $(OPTIONS)

# three on two cores: runs, daemons and browsers are waited for
test-slow: .venv/.dev .venv/.infra .venv/.swift .venv/.readers .venv/.backtesters trino
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m slow $(OPTIONS)

test-long: .venv/.dev .venv/.swift
	GENERATED=$(GENERATED) $(BIN)/pytest -n 2 --timeout 7200 lakehouse_tests/faults/test_generated.py -k seeds
	FUZZ=$(FUZZ) $(BIN)/pytest --timeout 72000 -m slow lakehouse_tests/fuzz # not by two processes: they keep what is printed to themselves
	LISTINGS=200 $(BIN)/pytest -m slow lakehouse_tests/sources/test_listings.py
	$(BIN)/pytest --capture=no --timeout 3600 lakehouse_tests/docker/long_image.py # as root, with Debian's buildah, debootstrap, podman, runc
	FLIPS=400 $(BIN)/pytest -n 2 --timeout 7200 lakehouse_tests/query/test_flips.py lakehouse_tests/query/test_flips_of_a_built_lake.py
	OUTAGE=60 $(BIN)/pytest lakehouse_tests/storage/test_builds_on_s3.py lakehouse_tests/storage/test_interrupted_builds.py -k outage
	MONTHS=12 KILLS=10 $(BIN)/pytest --capture=no --timeout 3600 lakehouse_tests/exchanges/test_bybit_kills.py
	OUTAGE=60 STORE=swift $(BIN)/pytest -n 2 --timeout 7200 lakehouse_tests/storage # every test of storage on a second S3

ui: setup
	$(BIN)/lakehouse ui

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/lakehouse docs --check
	$(BIN)/typos
	$(BIN)/zizmor --quiet --offline .github
	$(BIN)/hadolint infra/docker/Dockerfile

wheel: .venv/.dev
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

# The image of a deployment, out of the wheel; PYTHON_IMAGE names another base, or the bytes of this one by a digest.
IMAGE ?= lakehouse:local
PYTHON_IMAGE ?= $(shell sed -n 's/^ARG PYTHON_IMAGE=//p' infra/docker/Dockerfile)
# Where its source can be read
SOURCE ?=
image: wheel image-of-wheel

image-of-wheel:
	docker build --file infra/docker/Dockerfile --tag $(IMAGE) --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) \
		--build-arg SOURCE=$(SOURCE) --build-arg VERSION=$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) --build-arg REVISION=$(shell git rev-parse HEAD) .

docs: setup
	$(BIN)/lakehouse docs

benchmark: .venv/.dev
	$(BIN)/python -m benchmarks.bronze
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.derived
	$(BIN)/python -m benchmarks.million
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.research
	$(BIN)/python -m benchmarks.growth --markets 1 10
	$(BIN)/python -m benchmarks.operating
	$(BIN)/python -m benchmarks.backfill_s3
	$(BIN)/python -m benchmarks.cells

# Every file of every package by its hash, for what pyproject.toml asks for and the versions that are pinned now; no address of an index is written down.
LOCK := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-strip-extras --no-annotate --no-header --universal --python-version 3.11
lock: .venv/.tools
	.venv/tools/bin/$(LOCK) pyproject.toml --output-file requirements.txt
	.venv/tools/bin/$(LOCK) pyproject.toml --extra aws --output-file requirements-aws.txt
	.venv/tools/bin/$(LOCK) pyproject.toml --extra dev --output-file requirements-dev.txt
	.venv/tools/bin/$(LOCK) --group infra --output-file requirements-infra.txt
	.venv/tools/bin/$(LOCK) --group swift --output-file requirements-swift.txt
	.venv/tools/bin/$(LOCK) --group trino --output-file requirements-trino.txt
	.venv/tools/bin/$(LOCK) --group readers --output-file requirements-readers.txt
	.venv/tools/bin/$(LOCK) --group backtesters --output-file requirements-backtesters.txt

# Known holes in the pinned packages, those of tools too; all files are asked about before it fails. It fails as well where it cannot ask.
advisories: .venv/.tools
	@holed=; for file in requirements*.txt; do \
		echo "$$file"; \
		.venv/tools/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r $$file || holed="$$holed $$file"; \
	done; \
	if [ -n "$$holed" ]; then echo "Known holes, or no answer:$$holed"; exit 1; fi

# The fast tests on the newest release of every package, whatever is pinned
newest:
	$(PYTHON) -m venv .venv/newest
	$(PYTHON) .ci/unpinned.py dev > .venv/newest/names.txt
	.venv/newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -r .venv/newest/names.txt
	.venv/newest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	.venv/newest/bin/python -m pip freeze --exclude-editable
	.venv/newest/bin/python -m pytest -n 2 -m "not slow" $(OPTIONS)

# What a scanner finds in what is declared: nothing that has no reason beside it
checkov: .venv/.infra
	.venv/infra/bin/checkov --directory infra/opentofu --framework terraform --skip-download --compact --quiet

deploy destroy bootstrap password: setup
	$(BIN)/python -m infra.deploy $@ --env $(ENV) $(OPTIONS)

.venv/.tools:
	$(PYTHON) -m venv .venv/tools
	.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 pip-audit==2.10.1
	@touch $@
