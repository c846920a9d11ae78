# One word per chore; `make` alone prints them.
PIP := .venv/bin/pip --quiet --disable-pip-version-check install
APT := tools/apt

.PHONY: help build check lint types layers unit test
help:           ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: .venv/ready  ## .venv/bin/flanneld, from a bare machine (installs the Debian packages it needs, once)

.venv/ready: requirements/run.lock requirements/test.lock requirements/setuptools.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || $(APT) python3-venv
	python3 -m venv .venv
	$(PIP) --require-hashes -r requirements/setuptools.lock
	$(PIP) --require-hashes --no-build-isolation -r requirements/run.lock -r requirements/test.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

lint: build     ## format and lint
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .

types: build    ## mypy --strict
	.venv/bin/mypy -p flannel_multi -p flannel_worker

unit: build     ## pure tests, no root
	.venv/bin/pytest tests/unit

check: lint types unit  ## everything that needs no root

test: check     ## what CI runs
