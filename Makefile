# Every target works in .venv, which the first one sets up from a hashed lock file.
.PHONY: demo test check data docs bench fuzz lock lint types jit-off wheel clean
PY = .venv/bin/python

demo: .venv/run.stamp ## the main job: train, compare, price, report
	.venv/bin/nmsim demo

test: .venv/dev.stamp ## every test, with compiled kernels
	$(PY) -m pytest -n 2 --durations 10

check: lint types test jit-off docs wheel ## everything that CI asserts

lint: .venv/dev.stamp
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .

types: .venv/dev.stamp
	.venv/bin/mypy

jit-off: .venv/dev.stamp ## the tests with kernels as plain Python, under branch coverage
	.venv/bin/coverage erase
	NUMBA_DISABLE_JIT=1 .venv/bin/coverage run -m pytest -n 2 --durations 10 -m "not compiled"
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

docs: .venv/dev.stamp
	.venv/bin/sphinx-build -W --keep-going -q docs docs/_build/html

wheel: .venv/dev.stamp ## the wheel, installed and used outside the checkout
	.ci/wheel

data: .venv/run.stamp ## bring the data sets that are not in the package into the user's cache folder
	.venv/bin/nmsim data --fetch all

bench: .venv/run.stamp ## measure this machine
	.venv/bin/nmsim bench kernels
	.venv/bin/nmsim bench train
	.venv/bin/nmsim bench io

fuzz: .venv/dev.stamp ## damaged weight files, then the property tests with many random examples each
	$(PY) tests/fuzz/fuzz_formats.py
	HYPOTHESIS_PROFILE=deep $(PY) -m pytest -n 2 --timeout 3600 -m "not slow"

lock: ## pin the dependencies again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" --default-index https://pypi.org/simple --no-config \
	    --upgrade --group build pyproject.toml --output-file requirements/run.lock
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock" --default-index https://pypi.org/simple --no-config \
	    --upgrade --constraint requirements/run.lock --group dev pyproject.toml --output-file requirements/dev.lock

clean:
	rm -rf .venv build dist *.egg-info docs/_build .coverage .coverage.*

.venv/%.stamp: requirements/%.lock pyproject.toml .ci/setup
	.ci/setup $*
	touch $@
