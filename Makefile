# Everything here works from a fresh clone. Steps already done are remembered in .venv/.stamps.
#
#   make audit        install, then audit the three built-in models on 100 held-out digits (results in runs/)
#   make test         install what the tests need and run them      (make test-slow: the long ones too)
#   make lint         ruff and pyright
#   make docs         the documentation as web pages in site/
#   make benchmarks   the timings of benchmarks/
#
# PYTHON       the interpreter .venv is made with: 3.11 or newer
# TORCH_INDEX  address of an extra package index, such as that of torch's wheels without CUDA

PYTHON ?= python3
TORCH_INDEX ?=

# The nets of the tests are small: threads would only wait for each other.
test test-slow: export OMP_NUM_THREADS = 1

BIN := .venv/bin
STAMPS := .venv/.stamps
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
MODELS := digits-cnn digits-cnn-pgd digits-cnn-cert

.PHONY: audit test test-slow lint docs benchmarks clean
.DELETE_ON_ERROR:

audit: $(STAMPS)/core
	@for model in $(MODELS); do \
		$(BIN)/withstand audit $$model --data digits --threat linf:0.1 --limit 100 --out runs/$$model || exit; \
	done
	@$(BIN)/withstand report $(MODELS:%=runs/%)

test: $(STAMPS)/test
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(STAMPS)/test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow" --hypothesis-profile fresh

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(STAMPS)/docs
	$(BIN)/mkdocs build --strict

benchmarks: $(STAMPS)/test
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit; done

clean:
	rm -rf .venv site dist build

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "withstand needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/core: $(STAMPS)/venv pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

# The development tools come with the tests' packages: pyright reads the tests too.
$(STAMPS)/test: $(STAMPS)/core
	$(PIP) -e '.[test]'
	@touch $@

$(STAMPS)/dev: $(STAMPS)/test
	$(PIP) -e '.[test,dev]'
	@touch $@

$(STAMPS)/docs: $(STAMPS)/core
	$(PIP) -e '.[docs]'
	@touch $@
