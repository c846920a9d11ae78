# One word per chore; `make` alone prints them.
PIP := @.venv/bin/pip --quiet --disable-pip-version-check install
FLOOR_PIP := $(subst .venv,.venv-floor,$(PIP))
APT := @tools/apt
C_CODE := $(wildcard workers/datapath/*.[ch] workers/datapath/bpf/* workers/sharing/*) setup.py
COMPILED := flannel_multi/_pages.abi3.so workers/flannel_worker/_datapath.abi3.so \
	$(addprefix workers/flannel_worker/datapath/,overlay.bpf.o xdp.bpf.o)
STORE ?= embedded
AT_ONCE := -n 4 --dist loadscope  # these tests wait more than they compute
HAS_HEADERS := python3 -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))'

.PHONY: help build check lint types layers unit packets store server kernel datapath e2e floor floor-tests test demo bench \
	bench-server bench-udp clean
help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: .venv/ready $(COMPILED)  ## .venv/bin/flanneld, from a bare machine (installs the Debian packages it needs, once)

.venv/ready: requirements/run.lock requirements/test.lock requirements/setuptools.lock pyproject.toml
	@command -v python3 >/dev/null || tools/apt python3
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || tools/apt python3-venv
	@$(HAS_HEADERS) || tools/apt python3-dev
	$(APT) gcc libc6-dev linux-libc-dev clang libbpf-dev libbpf1
	@echo "building .venv (once)"
	@python3 -m venv .venv
	$(PIP) --require-hashes -r requirements/setuptools.lock
	$(PIP) --require-hashes --no-build-isolation -r requirements/run.lock -r requirements/test.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(COMPILED) &: $(C_CODE) | .venv/ready
	@echo "compiling the C code"
	@.venv/bin/python -W ignore setup.py --quiet build_ext --inplace
	@touch -c $(COMPILED)

lint: build     ## format and lint
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .

types: build    ## mypy --strict
	.venv/bin/mypy

layers: build   ## who may import whom
	.venv/bin/lint-imports

unit: build     ## pure tests and fuzzing, no root
	.venv/bin/pytest $(AT_ONCE) tests/unit tests/fuzz

store: build    ## one contract over every kind of lease store: real etcd, files, servers
	$(APT) etcd-server etcd-client openssl
	.venv/bin/pytest $(AT_ONCE) tests/store

server: build   ## the HTTP server and flannelctl, over each kind of store
	$(APT) etcd-server etcd-client openssl systemd
	.venv/bin/pytest $(AT_ONCE) tests/server tests/ctl

kernel: build   ## netlink in namespaces of its own; root
	$(APT) iproute2 iputils-ping procps ethtool bpftool clang
	.venv/bin/pytest tests/kernel

e2e: build      ## whole daemons, etcd, namespaces; root
	$(APT) iproute2 iputils-ping procps etcd-server etcd-client openssl iperf3 ethtool gcc libc6-dev
	.venv/bin/pytest tests/e2e

packets: build  ## the packet code: models, scapy, sanitizers, a minute of fuzzing; no root
	$(APT) clang libclang-rt-dev gcc libc6-dev
	.venv/bin/pytest tests/packets
	.venv/bin/python -m tests.packets.fuzzing 60

datapath: build ## the user path on real devices, in namespaces of its own; root
	$(APT) clang libclang-rt-dev gcc libc6-dev iproute2 iputils-ping procps ethtool bpftool
	.venv/bin/pytest tests/datapath

floor:          ## unit and kernel tests on the oldest versions we support: Debian 12's, with its Python 3.11
	@if python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then $(MAKE) floor-tests; \
	else echo "floor: not run: Debian 12's packages want Python 3.11, this is $$(python3 --version)"; fi

floor-tests: .venv-floor/ready
	$(APT) iproute2 iputils-ping procps ethtool bpftool clang
	.venv-floor/bin/flanneld --version
	.venv-floor/bin/pytest tests/unit tests/fuzz tests/kernel

.venv-floor/ready: requirements/floor.lock pyproject.toml
	$(APT) gcc libc6-dev python3-dev
	@echo "building .venv-floor (once)"
	@python3 -m venv .venv-floor
	$(FLOOR_PIP) --require-hashes -r requirements/setuptools.lock
	$(FLOOR_PIP) --require-hashes --no-build-isolation -r requirements/floor.lock
	$(FLOOR_PIP) --no-deps --no-build-isolation --editable .
	@touch $@

check: lint types layers unit   ## format, lint, types, layers and the pure tests, under a minute; no root

test: check packets store server kernel datapath floor e2e  ## everything; what CI runs

demo: build     ## three hosts, three networks, a worker killed: on this machine, in namespaces; root
	$(APT) iproute2 iputils-ping $(if $(filter etcd,$(STORE)),etcd-server etcd-client)
	@STORE=$(STORE) .venv/bin/python -m tests.lab.demo

bench: build    ## how fast, how large: prints the README's table; root
	$(APT) iproute2 iputils-ping etcd-server etcd-client
	.venv/bin/python -m tests.bench.run

bench-server: build ## the HTTP server under 2,000 clients and 10,000 leases, 2 minutes
	$(APT) etcd-server etcd-client
	.venv/bin/python -m tests.bench.server.run

bench-udp: build ## the udp backend's data paths beside vxlan and a plain loop, 14 minutes; root
	$(APT) iproute2 iputils-ping iperf3 ethtool gcc libc6-dev etcd-server etcd-client
	.venv/bin/python -m tests.bench.udp.run $(BENCH_UDP)

clean:          ## removes what was built
	rm -rf .venv .venv-floor build flannel_multi/*.so workers/flannel_worker/*.so workers/flannel_worker/datapath/*.o .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
