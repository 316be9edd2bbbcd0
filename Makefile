# make run    train PPO on CartPole-v1 and show where the result is
# make test   run the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/ppo-CartPole-v1-$(shell date +%Y%m%d-%H%M%S)

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: run test test-slow lint clean

$(VENV)/installed: setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v[:2] < (3, 14) else "tfzoo needs Python 3.10 to 3.13, this is %d.%d; name another one: make PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

run: $(VENV)/installed
	$(BIN)/python experiments/ppo.py --flagfile=experiments/configs/ppo_cartpole.flags --run_dir=$(RUN_DIR)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow'

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info
