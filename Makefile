# Every target does its own set-up; it needs Python 3.11 or newer with pip, and nothing else.
PYTHON ?= python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
# The suite starts our program some hundred times: it is compiled once.
unexport PYTHONDONTWRITEBYTECODE

demo: .venv/installed ## Watch an assistant collect, pay, read, reverse and report, on this machine alone
	@$(BIN)/mpesa-mcp demo

run: .venv/installed ## Serve on this machine, with the settings of the environment
	@$(BIN)/mpesa-mcp serve

test: .venv/installed ## The whole suite
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder

test-fast: .venv/installed ## The suite without what starts processes
	@$(BIN)/python -m pytest --ignore tests/cli --ignore tests/app --ignore tests/simulator

lint: .venv/installed ## Style, formatting, and which room may import which
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo

types: .venv/installed ## Strict types
	@$(BIN)/mypy --num-workers 2

check: lint types test ## All that must hold before a change is handed in

crash: .venv/installed ## Kills a process at every commit and every call of Daraja, in every story, on both databases
	@$(BIN)/python -m pytest tests/crash -m "slow or not slow" --numprocesses auto

isolation: .venv/installed ## Every route and every tool, asked with every value that names something of another organization
	@$(BIN)/python -m pytest tests/isolation -m slow --numprocesses 2 --dist loadscope

model: .venv/installed ## Payments under whatever can happen, in any order: thousands of other examples each time
	@MODEL_EXAMPLES=$${MODEL_EXAMPLES:-1000} $(BIN)/python -m pytest tests/property --numprocesses 2

storm: .venv/installed ## 1,000 payments on each database while a worker is killed each second; prints the figures
	@$(BIN)/python -m pytest tests/storm -m slow -s

bench-neighbours: .venv/installed ## What one organization at ten times its limit costs another
	@$(BIN)/python -m bench.neighbours

bench-batches: .venv/installed ## How fast ten thousand rows are checked and paid, and in how much memory
	@$(BIN)/python -m bench.batches

bench: .venv/installed ## Stored callbacks per second, beside an endpoint that stores nothing
	@$(BIN)/python -m bench.callbacks

lock: .venv/installed ## Renew requirements.lock: names, versions and hashes, no addresses
	@$(BIN)/pip-compile -q --extra dev --generate-hashes --strip-extras --allow-unsafe --upgrade \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --no-annotate \
	  -o requirements.lock pyproject.toml

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@echo "Installing into .venv, which takes some minutes the first time ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# What fails is told by pip on stderr; of what it does, a line for every ten packages.
	@rm -f .venv/failed; all=$$(grep -c == requirements.lock); n=0; \
	  { $(PIP) --require-hashes -r requirements.lock || touch .venv/failed; } | while read -r did _; do \
	    case $$did in \
	      Collecting|Processing) n=$$((n + 1)); test $$((n % 10)) != 0 || echo "  $$n of $$all packages ..." ;; \
	      Installing) echo "  unpacking them ..." ;; \
	    esac; \
	  done; \
	  test ! -e .venv/failed
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo run test test-fast lint types check crash isolation storm model bench bench-batches bench-neighbours lock
