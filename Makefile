# Two commands do everything on a fresh machine with Python 3.11 to 3.13: `make train` and `make test`.
PYTHON ?= $(shell for v in 3 3.12 3.13 3.11; do \
    python$$v -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
    && { echo python$$v; break; }; done)
BIN := .venv/bin

.PHONY: train test bench performance clean

train: .venv/train
	$(BIN)/distkeras train --config configs/digits.yaml

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/architecture -n auto --maxprocesses 8 --dist loadfile
	$(BIN)/pytest tests/parity tests/integration tests/faults --durations 25

# The short set of benchmarks, with the peers that pip installs, and a page of what they say. Ratios to rely on need
# PAIRS=5 and an idle machine; those that are published are measured one by one into benchmarks/results.
BENCHMARKS := c01_step_overhead c02_steps_per_execution c03_jpeg_input c04_decoded_cache c06_two_workers c10_start \
    c14_memory
PAIRS ?= 2
OUT ?= bench-results

bench: .venv/bench
	@for name in $(BENCHMARKS); do \
	    $(BIN)/python benchmarks/$$name.py --pairs $(PAIRS) --out $(OUT) > /dev/null || exit; \
	done
	@$(BIN)/python benchmarks/performance_page.py --results $(OUT) --out $(OUT)/performance.md

# docs/performance.md, from benchmarks/results. `make test` fails while it is another page.
performance: .venv/train
	$(BIN)/python benchmarks/performance_page.py

# A stamp a set of extras, so that a second run installs nothing. Versions come from constraints.txt.
.venv/train: pyproject.toml constraints.txt | .venv/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[report,track]'
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ .venv/train

.venv/bench: pyproject.toml constraints.txt | .venv/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

.venv/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 with venv was found. Install one, or name it: make train PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up .venv with $(PYTHON): this downloads TensorFlow and takes a few minutes, once"
	$(PYTHON) -m venv .venv
	@touch $@

clean:
	rm -rf .venv runs
