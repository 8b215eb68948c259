# Every target does all the set-up it needs; the only requirements are make and Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
WORKERS ?= 2

# One thread a process: the test workers already fill the cores, and results do not depend on luck.
SINGLE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

# Neighbours stay with one worker, so that what a file's tests share is made once.
PARALLEL = -n $(WORKERS) --dist worksteal

# Container images often turn this off, and tests start hundreds of processes.
KEEP_COMPILED := PYTHONDONTWRITEBYTECODE=

.DELETE_ON_ERROR:
.PHONY: help setup test test-slow test-extras test-processors test-web web-runtime check format \
  docs demo gpu clean

help:
	@echo "make setup      create $(VENV) with the pinned packages"
	@echo "make test       run the tests (a few minutes on two cores)"
	@echo "make test-slow  run the tests that are left out of make test"
	@echo "make test-extras  install the extras and run their tests; a skipped one fails"
	@echo "make test-processors  run the tests with the instruction sets of older and newer processors"
	@echo "make test-web   install what browser tests need (npm, Chromium there) and run them"
	@echo "make web-runtime  fetch what runs generators in a browser into the cache"
	@echo "make check      run the linter, the format check, the type checker and the structure gates"
	@echo "make format     mend what the linter and the formatter can mend"
	@echo "make docs       build the documentation site into docs/_build; a warning fails"
	@echo "make demo       train a small video GAN and show what it learned (seven minutes to a quarter of an hour on one core)"
	@echo "make gpu        test and measure on one card, eight minutes; without a card a tiny form"
	@echo "make clean      remove $(VENV) and every cache"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vidgan needs Python 3.11 or newer, but '$(PYTHON)' is not one;" \
	    "name another with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' lacks the venv module;" \
	    "install it (on Debian and Ubuntu: the package python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

test: $(STAMP)
	$(SINGLE_THREAD) $(KEEP_COMPILED) $(BIN)/python -m pytest $(PARALLEL)

test-slow: $(STAMP)
	$(SINGLE_THREAD) $(KEEP_COMPILED) $(BIN)/python -m pytest $(PARALLEL) -m "slow and not gpu and not weights"

# Tests of extras skip where a package is missing; here nothing may be missing.
EXTRAS := arrays,export,explore,faces,hub,oracles,cluster,cloud,tfrecords,tensorboard,wandb
EXTRA_TESTS := tests/data/build/test_engine.py tests/data/packed/test_cloud.py \
  tests/films tests/cli/test_faces_verb.py tests/sharing tests/training/test_loggers.py \
  tests/metrics/test_frechet.py tests/metrics/test_image_quality.py \
  tests/metrics/test_inception_score.py tests/metrics/test_kernel.py tests/metrics/test_manifold.py \
  tests/extractors/test_lpips.py tests/extractors/test_preprocessing.py \
  tests/data/sources/test_containers_*.py tests/data/packed/test_export.py tests/data/sources/test_layouts.py \
  tests/training/test_other_launchers.py tests/test_document_extras.py

# litdata's metadata asks for torchvision, and it does without. torchmetrics imports it where it is
# there, which fails beside the CPU build of torch.
test-extras: $(STAMP)
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/python -m pip install --quiet --editable '.[dev,$(EXTRAS)]' click tqdm webdataset accelerate 'ray[train]'
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/python -m pip install --quiet --no-deps scenedetect
	$(BIN)/python -m pip uninstall --quiet --yes torchvision
	$(SINGLE_THREAD) $(BIN)/python -m pytest $(PARALLEL) --no-skips \
	  -m "not gpu and not weights and not web" $(EXTRA_TESTS)

web-runtime: $(STAMP)
	$(BIN)/vidgan web-runtime

# Chromium is the system's (Debian: the package chromium), or the one that CHROMIUM names.
AXE := axe-core-4.14.1
test-web: web-runtime
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/python -m pip install --quiet --editable '.[dev,export,explore]' playwright
	cd $(VENV) && npm pack --silent $(subst core-,core@,$(AXE)) && \
	  tar xzf $(AXE).tgz package/axe.min.js && mv package/axe.min.js axe.min.js
	$(SINGLE_THREAD) VIDGAN_AXE=$(CURDIR)/$(VENV)/axe.min.js \
	  $(BIN)/python -m pytest -q --no-skips -m web tests/sharing tests/report tests/test_document_extras.py

# What other processors compute with, as far as this one can: torch and oneDNN have a switch each, and
# both choose other kernels. Torch does not ask whether the processor can and would die of it. Narrow
# the lists by name: make test-processors THREADS=1 PROCESSORS=ATEN_CPU_CAPABILITY=default
THREADS ?= 1 2
PROCESSORS ?= ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ATEN_CPU_CAPABILITY=avx512 \
  ONEDNN_MAX_CPU_ISA=AVX2,MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16
TESTS ?=

test-processors: $(STAMP)
	@$(BIN)/python -c 'from vidgan.core.machine import processor_id; print(processor_id())'
	@told= ; failed=0; \
	sets=$$($(BIN)/python -c 'from vidgan.core.machine import describe_processor as look; \
	  print(*look()["instruction_sets"])') || exit; \
	for limits in $(PROCESSORS); do for threads in $(THREADS); do \
	  leg="$$limits OMP_NUM_THREADS=$$threads"; \
	  case "$$limits:$$sets" in \
	    ATEN_CPU_CAPABILITY=avx512:*avx512f* | ATEN_CPU_CAPABILITY=avx2:*avx2*) ;; \
	    ATEN_CPU_CAPABILITY=avx*) \
	      told="$$told\nnot run  $$leg (this processor cannot)"; continue;; esac; \
	  printf '\n%s\n' "$$leg"; \
	  env OMP_WAIT_POLICY=PASSIVE $$(echo $$leg | tr , ' ') \
	    $(BIN)/python -m pytest -q $(PARALLEL) $(TESTS); \
	  case $$? in 0) told="$$told\ngreen    $$leg";; 2) exit 2;; \
	    *) told="$$told\nRED      $$leg"; failed=1;; esac; \
	done; done; \
	printf "$$told\n"; exit $$failed

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(SINGLE_THREAD) $(BIN)/python -m pytest -q tests/test_structure.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Links between pages, their headings and the docstrings of public names are checked while it builds.
docs: $(STAMP)
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	$(SINGLE_THREAD) $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

demo: $(STAMP)
	$(BIN)/vidgan demo

# A machine with a card may be bare: no environment is made and nothing is downloaded. Without one
# $(PYTHON) has to hold torch and the other packages, or their wheels lie in .wheels.
gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py $(if $(OUT),--out "$(OUT)")

clean:
	rm -rf $(VENV) docs/_build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
