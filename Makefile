# Two commands do all on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test bench lint install clean

demo: install
	$(BIN)/ainode demo $(if $(STUDIES),--studies "$(STUDIES)")

test: install lint
	$(BIN)/pytest

bench: install
	$(BIN)/ainode bench receive $(if $(QUICK),--quick)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	sh .ci/packages storescu=dcmtk Orthanc=orthanc chromium=chromium
	python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $(INSTALLED)

clean:
	rm -rf .venv demo build *.egg-info
