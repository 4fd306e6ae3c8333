# Everything that is done to this project by hand has a name here.
.DEFAULT_GOAL := help
.PHONY: help demo serve-demo test chaos swarm-test fuzz mutants check format engine engine-stop image bench record clean

PYTEST_ARGS ?=
SEED ?= 1
ROUNDS ?= 100
THOROUGH ?=
FUZZ_SECONDS ?= 300
MODULE ?=

# Hundreds of processes import the same modules: compiled once, also where the shell says PYTHONDONTWRITEBYTECODE.
COMPILED = env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/.venv/compiled

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## A real conversation: in a container where Docker runs, else in a local process.
	@scripts/venv claude
	@scripts/demo

serve-demo: ## The service and its page with a scripted model: tokens are made, the address is printed; Ctrl-C leaves nothing.
	@scripts/venv claude service
	@.venv/bin/python scripts/serve-demo

test: ## All tests but those that are many of a kind, which THOROUGH=1 has, too. CC_BRIDGE_REQUIRE=docker,claude makes lacking parts failures.
	@scripts/venv claude service sealed metrics oidc otel test
	CC_BRIDGE_THOROUGH=$(THOROUGH) $(COMPILED) .venv/bin/pytest -n auto --dist load --maxschedchunk 1 $(PYTEST_ARGS)

chaos: ## Faults at random moments: SEED=7 ROUNDS=300 plays more than `make test` does.
	@scripts/venv claude service sealed metrics oidc otel test
	CC_BRIDGE_CHAOS_SEED=$(SEED) CC_BRIDGE_CHAOS_ROUNDS=$(ROUNDS) CC_BRIDGE_CHAOS_MEGABYTES=300 \
	    .venv/bin/pytest -q tests/chaos $(PYTEST_ARGS)

swarm-test: ## All tests of Docker Swarm, over machines in namespaces of this one (root); SEED=7 ROUNDS=300 for more of its chaos.
	@scripts/venv claude service sealed metrics oidc otel test
	CC_BRIDGE_THOROUGH=1 CC_BRIDGE_REQUIRE=docker,claude,swarm CC_BRIDGE_CHAOS_SEED=$(SEED) CC_BRIDGE_CHAOS_ROUNDS=$(ROUNDS) \
	    .venv/bin/pytest -q tests/swarm $(PYTEST_ARGS)

fuzz: ## Coverage-guided fuzzing of what comes out of a container, for FUZZ_SECONDS each.
	@scripts/venv claude service sealed metrics oidc otel test fuzz
	.venv/bin/python -m tests.fuzz.fuzz frames $(FUZZ_SECONDS)
	.venv/bin/python -m tests.fuzz.fuzz conversation $(FUZZ_SECONDS)
	.venv/bin/python -m tests.fuzz.fuzz cost $(FUZZ_SECONDS)
	.venv/bin/python -m tests.fuzz.fuzz gate $(FUZZ_SECONDS)

mutants: ## What tests let through: small changes to each module; MODULE="link ledger --show" SEED=2 for a part, another sample.
	@scripts/venv claude service sealed metrics oidc otel test
	.venv/bin/python scripts/mutants --seed $(SEED) $(MODULE)

check: ## Lint, format and types.
	@scripts/venv claude service sealed metrics oidc otel test check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: ## Format the code.
	@scripts/venv claude service sealed metrics oidc otel test check
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

engine: ## Start a Docker engine where none answers (Debian, root).
	@scripts/engine start

engine-stop: ## Stop the engine that `make engine` started.
	@scripts/engine stop

image: ## Build the default image now instead of on first use.
	@scripts/venv claude
	@scripts/image

bench: ## Measure, beside what one would take instead; ONLY=pane for one part. A whole run makes docs/performance.md.
	@scripts/venv claude sdk service sealed
	.venv/bin/python -m benchmarks

record: ## Record a session in a shared pane, for the docs.
	@scripts/venv claude
	.venv/bin/python scripts/record-pane

clean: ## Remove what was made here: .venv and caches.
	rm -rf .venv build dist *.egg-info agent/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
