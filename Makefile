# Caravan: `make up` brings it up, `make test` tests it, `make check` holds the line.
# Everything is installed by hash into .venv; engines and models go to $CARAVAN_CACHE.
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
# Which Python makes the environment, looked for only then: the one it has, else the distribution's, which is built
# to be faster than pyenv's (docs/costs.md), else that on PATH. PYTHON=… chooses another.
FITS := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for one in $(BIN)/python /usr/bin/python3 python3; do \
	$$one -c 'import ensurepip; $(FITS)' 2> /dev/null && echo $$one && break; done)
LOCK := uv pip compile pyproject.toml --extra all --group build --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --annotation-style line
NODE := tests/clients/node

.DEFAULT_GOAL := help
.PHONY: help up down test check format bench-platform bench-router bench-soak docs lock engine clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

up: .venv/caravan  ## bring up the platform with the demo model, and print how to call it
	@$(BIN)/caravan up --detach --demo

down: .venv/caravan  ## drain and end everything that `make up` started
	@$(BIN)/caravan down

test: .venv/dev $(NODE)/node_modules engine  ## all tests; TESTS=path narrows them
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'not sglang' $(TESTS)
	@# Real engines want the machine for themselves; 5: none of the tests that were asked for is one.
	$(BIN)/python -m pytest -m sglang $(TESTS) || [ $$? = 5 ]

check: .venv/dev  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev  ## mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-platform: .venv/dev engine  ## start, scale, list, memory and idle CPU, measured
	$(BIN)/python -m benchmarks.platform

bench-router: .venv/dev  ## the router beside nginx, SGLang's router and LiteLLM
	$(BIN)/python -m benchmarks.router

bench-soak: .venv/dev  ## a million requests through the router: is its memory flat?
	$(BIN)/python -m benchmarks.router_soak

docs: .venv/dev  ## write docs/reference again
	$(BIN)/python -m docs.generate

engine: .venv/caravan  ## SGLang for this machine's CPU, in an environment of its own (5 GB)
	@$(BIN)/python engines/install.py cpu > /dev/null || echo "no engine: tests on real SGLang will be skipped"

lock: .venv/dev  ## write every lock again from pyproject.toml
	$(LOCK) --output-file requirements/all.txt
	$(LOCK) --extra otel --constraint requirements/all.txt --output-file requirements/otel.txt
	$(LOCK) --extra otel --group dev --constraint requirements/all.txt --output-file requirements/dev.txt
	grep -A 40 '^uv==' requirements/all.txt | awk 'NR == 1 || /^ /{print; next} {exit}' > requirements/uv.txt
	$(BIN)/python engines/lock.py

clean:  ## forget the environment of this checkout; homes and caches stay
	rm -rf .venv $(NODE)/node_modules

# The environment: made with uv when it is there, else with Python's own venv, which then gets uv.
.venv/bin/uv: requirements/uv.txt
	@python='$(PYTHON)'; uv=$$(command -v uv); \
	if [ -z "$$python" ] && [ "$$uv" ]; then python='>=3.11'; \
	elif $${python:-false} -c '$(FITS)' 2> /dev/null; then python=$$(command -v $$python); \
	else echo "Caravan needs uv, or Python 3.11 or newer (on Debian python3-venv as well): make PYTHON=python3.11 …" >&2; exit 1; fi; \
	if [ "$$uv" ]; then uv venv --quiet --allow-existing --python "$$python" .venv; else $$python -m venv .venv; fi
	@if command -v uv > /dev/null; then uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/uv.txt; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; fi
	@touch $@

.venv/caravan: .venv/bin/uv requirements/all.txt pyproject.toml
	$(INSTALL) --compile-bytecode --require-hashes -r requirements/all.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/caravan requirements/dev.txt
	$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(NODE)/node_modules: $(NODE)/package-lock.json
	@if command -v npm > /dev/null; then npm ci --silent --ignore-scripts --prefix $(NODE); else \
		echo 'npm is missing: the Node client tests will be skipped'; mkdir -p $@; fi
	@touch $@
