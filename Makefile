PYTHON ?= python

.PHONY: check test test-integration test-faults bench ci

check:  ## ruff, mypy, import rules
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q -n 0 tests/test_architecture.py

test:  ## the README's test command
	$(PYTHON) -m pytest

test-integration:  ## only the tests that start several processes
	$(PYTHON) -m pytest tests/integration

test-faults:  ## the whole fault matrix (two hours); writes its times into docs/reliability.md
	rm -f fault-times.jsonl
	FAULT_TIMES=fault-times.jsonl $(PYTHON) -m pytest -n 1 -m faults tests
	$(PYTHON) -m tests.integration.faults.times fault-times.jsonl --write docs/reliability.md

bench:  ## the engine beside tf.estimator 2.15.1, Keras and bare loops; rewrites docs/performance.md
	$(PYTHON) -m benchmarks.estimator_speed

ci: check test
