# Two commands, each doing its own set-up in .venv: `make quickstart` and `make test`. `make claims` takes an hour or so.
# They need Python 3.11 or newer, pip and make; another Python: make quickstart PYTHON=python3.12
# make quickstart ENGINE=vllm samples with vLLM; make test installs it where a build of it fits.
PYTHON ?= python3
ENGINE ?= transformers
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --python $(RUN) --disable-pip-version-check --quiet --quiet

SEEDS ?= 5

.PHONY: quickstart claims test test-slow lint clean
.NOTPARALLEL: # two pips at once would spoil one environment

quickstart: $(VENV)/installed $(if $(filter vllm%,$(ENGINE)),$(VENV)/installed-vllm)
	$(RUN) -m rlsd_lightning fit engine=$(ENGINE)

claims: $(VENV)/installed-dev
	$(RUN) -m benchmarks.claims.run --seeds $(SEEDS)

test: $(VENV)/installed-dev $(VENV)/installed-vllm
	$(RUN) -m pytest

test-slow: $(VENV)/installed-dev $(VENV)/installed-vllm
	$(RUN) -m pytest -m slow

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info

# The stamps are newer than what was installed from; the environment is made once and then only brought up to date.
$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Installing rlsd_lightning into $(VENV) (once; about a minute) ..."
	@$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; PYTHON=... chooses one.' if sys.version_info < (3, 11) else 0)"
	@test -x $(RUN) || $(PYTHON) -m venv --without-pip $(VENV)
	@$(PIP) install --constraint constraints.txt pip --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing what the tests need ..."
	@$(PIP) install --constraint constraints.txt --editable ".[dev]"
	@touch $@

# Without vLLM the tests go on and skip what needs it; no stamp where trying again may help.
$(VENV)/installed-vllm: $(VENV)/installed
	@if $(RUN) scripts/install_vllm.py; then touch $@; fi
