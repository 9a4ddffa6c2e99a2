# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check
INPUTS := pyproject.toml constraints.txt
CODE   := quant_lens_engine worker app
FUZZ_SECONDS  ?= 600
FUZZ_SUBJECTS ?=

.DEFAULT_GOAL := help
.PHONY: help run test quick fmt lint types bench fuzz docs screenshots examples browser walls clean

help:            ## what there is
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

# One environment; the stamps say what is in it. A changed project file or constraint installs again.
$(VENV)/.run: $(INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.fuzz: $(VENV)/.dev
	$(PIP) install --quiet -c constraints.txt -e '.[fuzz]'
	@touch $@

# The peers' declared dependencies would replace torch and numpy, so the list is complete and installed as it stands.
$(VENV)/.peers: $(VENV)/.dev
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['peers'], sep='\n')" > $@.txt
	$(PIP) install --quiet --no-deps -c constraints.txt -r $@.txt
	@touch $@

run: $(VENV)/.run  ## start everything on this machine and print the address of the page
	@exec $(BIN)/quant-lens up

browser:  ## a Chromium for the browser tests, installed where it is missing
	@tests/browser/install_chromium.sh

walls:  ## what the sandbox's walls need of the system, installed where it is missing
	@tests/security/install_walls.sh

# What computes runs side by side, one thread each; what drives servers mostly waits, so two files of it at a time; what
# drives browsers has the machine to itself.
test: $(VENV)/.dev browser walls lint types  ## everything CI checks
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --doctest-modules $(CODE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not browser and not integration" tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m integration tests
	$(BIN)/pytest -m browser tests

quick: $(VENV)/.dev  ## a developer's loop: what computes, without the slow tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "not slow and not browser and not integration" tests/unit tests/analytic

fmt: $(VENV)/.dev  ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev  ## ruff, container files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

bench: $(VENV)/.peers browser  ## measure the engine against its floor and its peers; figures go to benchmarks/results/
	$(BIN)/python -m benchmarks.curvature
	$(BIN)/python -m benchmarks.landscape
	$(BIN)/python -m benchmarks.frames
	$(BIN)/python -m benchmarks.rounding
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers

# Half of the time Hypothesis, half Atheris, which keeps its inputs in build/fuzz/corpus; `make fuzz FUZZ_SUBJECTS="onnx gguf"`.
fuzz: $(VENV)/.fuzz  ## attack what reads strangers' files for FUZZ_SECONDS (600); findings go to build/fuzz
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz --seconds $$(( $(FUZZ_SECONDS) / 2 )) $(FUZZ_SUBJECTS)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz.guided --seconds $$(( $(FUZZ_SECONDS) / 2 )) $(FUZZ_SUBJECTS)

docs: $(VENV)/.dev  ## the documentation as a site in build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/docs

screenshots: $(VENV)/.dev browser  ## the pictures of README and docs, taken by the browser tests
	@mkdir -p docs/screenshots
	QUANT_LENS_SCREENSHOTS=docs/screenshots $(BIN)/pytest -q tests/browser

examples: $(VENV)/.run  ## train the example models again
	$(BIN)/python examples/train.py

clean:  ## remove what was built; runs and uploads in data/ stay
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
