# The door for people: each target is one line that calls the real tool.
PYTHON ?= python3
PIP = .venv/bin/pip --disable-pip-version-check -q
PLUGINS = $(sort $(wildcard plugins/*/pyproject.toml))
SOURCES = pyproject.toml constraints.txt requirements-dev.txt $(PLUGINS) examples/plugin-minimal/pyproject.toml

.PHONY: serve test test-all lint types contracts check bench wheels docs proto clean venv clients

serve: .venv/.done
	.venv/bin/objectio serve $(ARGS)

test: .venv/.done
	.venv/bin/python -m pytest -m "not slow" $(ARGS)

test-all: .venv/.done
	.venv/bin/python -m pytest $(ARGS)

lint: .venv/.done
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

types: .venv/.done
	.venv/bin/python tests/repo/typecheck.py

contracts: .venv/.done
	.venv/bin/lint-imports

check: lint types contracts test

bench: .venv/.done
	.venv/bin/python -m benchmarks $(ARGS)

wheels: .venv/.done
	rm -rf dist && .venv/bin/pip --disable-pip-version-check -q wheel --no-deps --no-build-isolation -w dist . $(addprefix ./,$(dir $(PLUGINS)))

docs: .venv/.done
	.venv/bin/python -m docs.generate && .venv/bin/python -m deploy.monitoring.generate

proto: .venv/.done
	.venv/bin/python tests/repo/protos.py

HELM = helm.sh/helm/v3/cmd/helm@v3.18.4

# The programs that some tests and the benchmark drive: Debian's own packages, for which it must be root,
# and Python libraries and linters, which want an environment of their own; helm is built where there is Go.
clients:
	apt-get update -q && apt-get install -qy --no-install-recommends wrk s3cmd rclone restic s3fs fuse prometheus
	$(MAKE) .venv-clients/.done

.venv-clients/.done: tests/clients/requirements.txt tests/repo/linters.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip --disable-pip-version-check -q install --only-binary :all: $(addprefix -r ,$^)
	! command -v go >/dev/null || GOBIN=$(CURDIR)/.venv-clients/bin go install $(HELM) || echo "helm could not be built: its tests skip"
	touch $@

venv: .venv/.done

.venv/.done: $(SOURCES)
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt pip hatchling editables
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[testing]' $(addprefix -e ./,$(dir $(PLUGINS))) -e ./examples/plugin-minimal -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .venv-clients dist build
