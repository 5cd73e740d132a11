## make demo    the whole road on a generated shop, from raw records to a
##              recognised product (QUICK=1: about 3 minutes, frozen backbone)
## make test    installs what is missing and runs the tests
## make flink-test   the build job on a local Flink (needs java and mvn): the
##              same bytes? spark-test and prism-test (needs go) alike
## make store-test   builds on servers of S3 and Cloud Storage, kills, two
##              builders, mistakes: the same bytes? (needs go, and root)
## make lint    formatting, lint, which way imports run, and the consistency of
##              the environment

.PHONY: help demo test lint install clean flink-test spark-test prism-test \
  store-test
.DEFAULT_GOAL := help

help:
	@sed -n 's/^## //p' Makefile

# The first Python that TensorFlow has wheels for and that can make a virtual
# environment. A name on the PATH may be a shim that does not run.
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	  $$python -c 'import sys, venv, ensurepip; \
	    sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    2>/dev/null && { echo $$python; break; }; done)

.venv/installed: setup.py sicot_tf/__init__.py
	@if [ -z "$(PYTHON)" ]; then \
	  echo "sicot_tf needs Python 3.11, 3.12 or 3.13 with the venv module;"; \
	  echo "none of python3.11, python3.12, python3.13, python3 is one."; \
	  echo "Install it, for example: apt-get install python3.11-venv"; \
	  exit 1; fi
	@echo "Installing into .venv with $(PYTHON); a few minutes ..."
	@start=$$(date +%s) && \
	  $(PYTHON) -m venv .venv && \
	  .venv/bin/python -m pip install --quiet --upgrade pip && \
	  .venv/bin/python -m pip install --quiet --editable '.[demo,dev]' && \
	  touch $@ && \
	  echo "Installed in $$(( $$(date +%s) - start )) s."

install: .venv/installed

demo: .venv/installed
	.venv/bin/python -m sicot_tf.demo $(if $(QUICK),--quick)

# A process for each core; tests/conftest.py says which tests stay together.
test: .venv/installed
	.venv/bin/python -m pytest --numprocesses auto --dist loadgroup \
	  --no-loadscope-reorder

flink-test spark-test prism-test: %-test: .venv/installed
	.venv/bin/python -m benchmarks.jobs.portable_runners --runner $*

store-test: .venv/installed
	.venv/bin/python -m benchmarks.stores.store_test

lint: .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/lint-imports --no-cache --no-logo
	.venv/bin/python -m pip check

clean:
	rm -rf .venv demo
