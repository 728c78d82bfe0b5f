# Two commands do all on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
BIN := .venv/bin
INSTALLED := .venv/.installed

# The build of PyTorch for CPUs, which has a third of the size, unless the machine has an NVIDIA GPU.
TORCH_INDEX ?= $(if $(wildcard /proc/driver/nvidia/version),,https://download.pytorch.org/whl/cpu)
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
SUPPLY := build/supply
SITE_TOOLS := build/site-tools
S3_SERVER := build/s3-server
MUTMUT := build/mutmut
OHIF_VERSION := 3.13.2
OHIF_SHA256 := b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1
OHIF_PAGES := build/ohif-$(OHIF_VERSION)
LOWEST := build/lowest
LOWEST_TESTS := $(addprefix tests/*/test_,$(addsuffix .py,cli compat completeness config deliver frames geometry jobs_engine \
	ledger_arrival ledger_deliveries ledger_instances pipeline_tumor receive_wire results results_gate results_identity rules studies web_pages))

# The tests wait more than they work. One thread for each test: the workers share the cores. What is compiled is kept, also
# where the environment says otherwise: the tests start hundreds of processes.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses $(or $(WORKERS),4) --dist loadscope --no-loadscope-reorder --durations 30

.PHONY: demo fleet test test-quick test-all test-rest test-lowest bench docs lint install lock fuzz mutation sbom audit reuse release deb clean

demo: install $(if $(OHIF),$(OHIF_PAGES)/index.html)
	$(BIN)/ainode demo $(if $(STUDIES),--studies "$(STUDIES)") $(if $(OHIF),--ohif $(OHIF_PAGES))

# With OHIF=1 the demonstration ends in a browser: it serves this viewer, and prints the addresses that open the studies.
$(OHIF_PAGES)/index.html:
	sh .ci/packages npm=npm
	sh .ci/ohif $(OHIF_VERSION) $(OHIF_SHA256) $(OHIF_PAGES)

# The demonstration on three machines that share nothing but a PostgreSQL; they are network namespaces, which need root.
fleet: install
	sh .ci/packages storescu=dcmtk Orthanc=orthanc pg_createcluster=postgresql
	$(if $(filter 0,$(shell id -u)),,sudo) $(BIN)/ainode demo --machines 3 --folder demo-fleet $(if $(STUDIES),--studies "$(STUDIES)")

# Lint, types, layers, unit tests, and one study that dcmtk sends through a whole node to Orthanc. mypy works on one core.
test: install
	+@$(MAKE) --no-print-directory --jobs 2 lint test-quick

test-quick: install
	$(PYTEST) --hypothesis-profile quick -m "walk or (unit and not thorough)" tests/unit tests/system/test_end_to_end.py

# Everything: then what `make test` has left out, and ten times as many drawn examples.
test-all: test test-rest

# With TURN=NUMBER a third of the tests that are marked `rotating`; another third with the next number.
test-rest: install
	@$(MAKE) --no-print-directory $(S3_SERVER) || echo "moto cannot be installed: what needs a server of S3 is skipped"
	$(PYTEST) $(if $(TURN),--turn $(TURN)) -m "not walk and (not unit or thorough or examples)"

# With the lowest version of every dependency that pyproject.toml allows; the tools of the tests are those of .venv.
test-lowest:
	rm -rf $(LOWEST)
	python3 -m venv $(LOWEST)
	.ci/lowest > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt --editable .
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt \
		$$(grep -E '^(aiosmtpd|dicom3tools|hypothesis|psycopg|psycopg-binary|pytest|pytest-timeout)==' constraints.txt)
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider $(LOWEST_TESTS)

bench: install
	$(BIN)/ainode bench receive $(if $(QUICK),--quick)
	$(BIN)/ainode bench infer
	$(BIN)/ainode bench encode $(if $(QUICK),--rounds 1)

# The pages of docs/ as a site in build/site; a broken link fails the build. Open build/site/index.html.
docs: $(SITE_TOOLS)
	$(SITE_TOOLS)/bin/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet --fresh-env --doctree-dir build/site-read docs build/site

$(SITE_TOOLS): docs/requirements.txt
	python3 -m venv $(SITE_TOOLS)
	$(SITE_TOOLS)/bin/pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	touch $(SITE_TOOLS)

# A server of S3 for tests; it needs other versions than the node.
$(S3_SERVER): Makefile
	python3 -m venv $(S3_SERVER)
	$(S3_SERVER)/bin/pip install --quiet --disable-pip-version-check flask==3.1.3 flask-cors==6.0.5 'moto[s3]==5.2.5' \
		|| { rm -rf $(S3_SERVER); exit 1; }  # half an environment would count as made, and its tests be skipped for ever
	touch $(S3_SERVER)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Coverage-guided fuzzing of TARGET, or of all (tests/support/fuzz_targets.py), for MINUTES of computing each.
fuzz: install
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP_INSTALL) atheris==3.0.0
	OMP_NUM_THREADS=1 $(BIN)/python tests/support/fuzz.py --minutes $(or $(MINUTES),24) $(TARGET)

# Whether the tests notice each small change of MODULE, or of each pure module (tests/support/mutations.py).
mutation: install $(MUTMUT)
	PYTHONPATH=$(CURDIR)/$(MUTMUT) $(BIN)/python tests/support/mutations.py $(MODULE)

$(MUTMUT): Makefile
	rm -rf $(MUTMUT)
	$(PIP_INSTALL) --target $(MUTMUT) --constraint constraints.txt mutmut==3.8.1
	touch $(MUTMUT)

# SHA-256 of every distribution of constraints.txt, for every platform; after each change of it (asks the index).
lock: $(SUPPLY)
	grep -Ev '^(#|torch==)' constraints.txt | $(SUPPLY)/bin/uv pip compile --quiet --universal --python-version 3.11 \
		--no-deps --generate-hashes --no-annotate --no-header --output-file requirements.lock -

# What the program is made of, as CycloneDX with licences and hashes; and what is known against it (asks the network).
sbom: install $(SUPPLY)
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application -o build/sbom.cdx.json $(BIN)/python
	python3 .ci/bill build/sbom.cdx.json

audit: install $(SUPPLY)
	$(BIN)/python .ci/audit $(BIN)/python $(SUPPLY)/bin/pip-audit

# Copyright and licence of every file (REUSE.toml). The REUSE specification also wants the texts in a folder LICENSES,
# which this project does not have: they are where these licences are used (docs/security.md). Another licence fails.
TEXTS := {"Apache-2.0", "0BSD", "CC-BY-NC-SA-4.0", "MIT"}
reuse: $(SUPPLY)
	$(SUPPLY)/bin/reuse lint --json | python3 -c 'import json, sys; found = json.load(sys.stdin)["non_compliant"]; \
		others = set(found.pop("missing_licenses")) ^ $(TEXTS); faults = {k: v for k, v in found.items() if v}; \
		sys.exit(f"reuse: {faults}, licences: {others}") if faults or others else \
		print("reuse: every file has copyright and licence; the texts are not in a folder LICENSES")'

# Source archive, wheel, constraints, bill of materials and checksums in dist/, of the commit that is checked out. Built
# twice and compared; the wheel is installed into an empty environment, where `ainode init` and `ainode demo` must work.
release: $(SUPPLY)
	python3 .ci/release $(SUPPLY)/bin

# The Debian package in dist/: an environment with all that the node needs, so that it installs without a network. As
# root it is then installed, upgraded and purged under a systemd of its own; the machine itself stays as it is.
deb: install
	.ci/deb $(TORCH_INDEX)
	AINODE_DEB="$$(ls dist/ainode_*.deb)" $(BIN)/pytest tests/system/test_debian_package.py

$(SUPPLY): constraints.txt Makefile
	python3 -m venv $(SUPPLY)
	$(SUPPLY)/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0 pip-audit==2.10.1 \
		reuse==6.2.0 setuptools==84.2.1 uv==0.13.9
	touch $(SUPPLY)

install: $(INSTALLED)

# All but PyTorch is checked against requirements.lock. Builds of PyTorch for CPU and CUDA have one version and other
# hashes, by index: it comes from TORCH_INDEX, or from the index that is configured, of the version in constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	sh .ci/packages storescu=dcmtk Orthanc=orthanc chromium=chromium haproxy=haproxy pgbouncer=pgbouncer
	python3 -m venv .venv
	$(PIP_INSTALL) --require-hashes --no-deps --requirement requirements.lock
	$(if $(TORCH_INDEX),$(PIP_INSTALL) --retries 1 --no-deps --index-url $(TORCH_INDEX) "$$(grep ^torch== constraints.txt)" \
		|| echo "$(TORCH_INDEX) is out of reach: PyTorch comes from the index that is configured")
	$(PIP_INSTALL) --no-build-isolation --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m compileall -q node pipelines  # else each confined process compiles them when it starts: it writes nothing
	touch $(INSTALLED)

clean:
	rm -rf .venv demo demo-fleet build dist *.egg-info
