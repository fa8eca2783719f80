# make demo   train a small model on built-in text and see it write
# make test   lint, types and the whole test suite
# Both set up their own .venv first; PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check pytest format clean

demo: .venv/elman
	@echo "elman demo: trains a small model for a minute and shows what it writes"
	$(BIN)/elman demo

test: check pytest

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: .venv/dev
	$(BIN)/pytest -n auto --dist worksteal

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The files named .venv/elman and .venv/dev only mark what is installed.
.venv/elman: pyproject.toml
	@echo "setting up .venv; pip downloads torch and the rest once, which takes some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/dev: .venv/elman pyproject.toml
	@echo "installing what the tests need"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
