# Two commands do everything: `make run` and `make test`. Each first builds or repairs .venv.
PYTHON ?= python3
BIN := .venv/bin
# Prefect reads this when it is imported; prefect.toml turns the server's telemetry off.
export DO_NOT_TRACK := 1

run: .venv/run.stamp                ## the whole pipeline: prints base against tuned, and the path of the report
	@$(BIN)/python flows/finetune.py

# Nothing else may run beside these: they are timed.
TIMED = tests/referee/test_attacks.py

test: .venv/test.stamp              ## unit, stage and flow tests
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(TIMED:%=--ignore=%)
	@$(BIN)/python -m pytest -q -n 2 $(TIMED)

# As root, Debian's package; otherwise Playwright's own, in the home folder.
CHROMIUM = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  apt-get update -qq && apt-get install -y -qq chromium; else $(BIN)/playwright install chromium; fi

SYSTEM = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -r requirements-system.in -c requirements-dev.lock

test-system: .venv/test.stamp       ## several machines, servers, kills, and what reruns when; installs requirements-system.in
	@$(SYSTEM)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(CHROMIUM)
	@$(BIN)/python -m pytest -q tests/system

test-container: .venv/test.stamp    ## build the Dockerfile step by step in a clean root; as root on Debian (about 5 minutes)
	@$(SYSTEM)
	@for tool in buildah debootstrap; do command -v $$tool >/dev/null || { apt-get update -qq && apt-get install -y -qq $$tool; } || exit 1; done
	@$(BIN)/python -m pytest -q tests/system/test_container.py

HOST ?= 127.0.0.1
PORT ?= 4200

serve: .venv/run.stamp              ## start a Prefect server, the deployments of prefect.yaml and their workers; HOST, PORT
	@exec $(BIN)/python flows/serve.py --host $(HOST) --port $(PORT)

check: .venv/test.stamp             ## lint, format, types, directions of imports, drawings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/architecture.py --check

paper: .venv/run.stamp              ## the experiment of arXiv 2507.10614 as a DVC experiment, with Llama-3.2-1B (a GPU, about a day)
	@export PATH="$(CURDIR)/$(BIN):$$PATH" && options=$$(dartune preset llama-3.2-1b) && dvc exp run -n paper $$options

evidence: .venv/run.stamp           ## the pipeline on two more seeds, from the pool on (about 20 minutes)
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/seeds.py 1 2

bench-referee: .venv/run.stamp      ## throughput of the referee, against the programs' own time (over 4 minutes)
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/referee.py

bench-sampling: .venv/run.stamp     ## time and memory to draw pairs from 10 thousand to 10 million programs (about 5 minutes)
	@mkdir -p .work && $(BIN)/python benchmarks/sampling.py

bench-generation: .venv/run.stamp   ## tokens per second, against generate() of transformers (about 4 minutes); PRESETS: of real models, too
	@$(BIN)/python benchmarks/generation.py
	@for preset in $(PRESETS); do $(BIN)/python benchmarks/real_generation.py $$preset || exit 1; done

search-methods: .venv/run.stamp     ## the base model inside each search method, three seeds (about 30 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/search.py

children: .venv/run.stamp           ## whether the embedded model rewrites the programs of a search's prompt (about a minute)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/children.py

trainers: .venv/run.stamp           ## dpo, sft, grpo, rloo and rounds against the frozen base model (about an hour)
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/trainers.py

ablation: .venv/run.stamp           ## six strategies on three seeds, on validation instances (about 40 minutes)
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/ablation.py

chaos: .venv/run.stamp              ## random SIGKILLs and a full disk: are the results those of an undisturbed run?
	@$(BIN)/python benchmarks/chaos.py

PRESET ?= smollm2-135m

fetch-small: .venv/run.stamp        ## the weights of a small real model into the user's cache; PRESET
	@$(BIN)/dartune fetch $(PRESET)

prompts: .venv/run.stamp            ## what a model writes to each form of a task's prompt, by temperature (an hour or more); PRESET
	@$(BIN)/python benchmarks/prompts.py $(PRESET)
	@$(BIN)/python benchmarks/search_prompts.py $(PRESET)

real: .venv/run.stamp               ## the experiment with real weights, cell by cell (days): experiments/real.yaml
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/real.py

bench-noop: .venv/run.stamp         ## what a run costs if everything is up to date
	@PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/noop.py

bench-train: .venv/run.stamp        ## tokens a second and memory of our DPO beside TRL's, with its defaults and set with care; PAIRS: of a real base
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/training.py $(if $(PAIRS),--base models/base --pairs $(PAIRS))

references: .venv/test.stamp        ## optimal or near-optimal costs of every instance, by PyVRP and OR-tools (about 10 minutes)
	$(BIN)/python benchmarks/references.py

# --upgrade: otherwise uv would keep torch==2.13.0 of the old file, which is not the CPU wheel, and pin its CUDA packages.
lock: .venv/test.stamp              ## resolve requirements*.in; the +cpu of a CPU wheel is not part of a version
	UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip compile -q --upgrade --no-header requirements-dev.in -o requirements-dev.lock
	UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip compile -q --upgrade --no-header requirements.in -c requirements-dev.lock -o requirements.lock
	@for extra in bench s3 ssh system; do $(BIN)/uv pip compile -q requirements-$$extra.in -c requirements-dev.lock -o /dev/null || exit 1; done
	sed -i 's/+cpu$$//' requirements.lock requirements-dev.lock
	@! grep -nE '^(nvidia|cuda|triton)' requirements.lock requirements-dev.lock | grep -v nvidia-ml-py  # which is pure Python

# vLLM brings its own torch, so it gets its own venv. MODEL: what the preset names as base.model.
VLLM := .venv-vllm
MODEL = $(shell $(BIN)/python -c "from dartune.params import everything; base = everything()['base']; \
  print('models/embedded' if base['model'] == 'embedded' else base['model'], '--revision ' + base['revision'] if base['revision'] else '')")
TUNED ?= models/final/tsp_construct
SERVE = exec $(VLLM)/bin/vllm serve
OPTIONS = --host 127.0.0.1 --port 8000 --generation-config vllm

serve-base: $(VLLM)/stamp           ## serve the base model of the preset by vLLM on a GPU, for the first pool: servers/vllm-base.yaml
	@$(SERVE) $(MODEL) --served-model-name base $(OPTIONS)

# A tuned adapter is served beside the base, tuned weights alone.
serve-model: $(VLLM)/stamp          ## serve the tuned model by vLLM on a GPU, with the base beside an adapter: servers/vllm.yaml
	@if [ -e $(TUNED)/adapter_config.json ]; then \
	  $(SERVE) $(MODEL) --served-model-name base $(OPTIONS) --enable-lora --max-lora-rank 64 --lora-modules tuned=$(TUNED); \
	else \
	  $(SERVE) $(TUNED) --served-model-name tuned $(OPTIONS); \
	fi

$(VLLM)/stamp:
	@command -v nvidia-smi >/dev/null || { \
	  echo "make: vLLM needs an NVIDIA GPU, and there is none; on a CPU run the model here: pool.source: models/base"; exit 1; }
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --disable-pip-version-check --progress-bar off vllm==0.33.0
	@touch $@

clean:                              ## remove what `make` and Prefect built; data, models and metrics stay
	rm -rf .venv .venv-vllm .work .prefect .pytest_cache .mypy_cache .ruff_cache

# .venv/installing exists while packages are being installed. If it is there at the start, the last install was
# interrupted and is thrown away, since half-unpacked packages can look complete.
.venv/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(0 if sys.version_info >= (3, 11) else \
	  f"make: {sys.executable} is Python {v}; 3.11 or newer is needed: make run PYTHON=/path/to/python3.11")'
	@if [ -e .venv/installing ]; then echo "an install was interrupted: starting it again"; rm -rf .venv; fi
	@mkdir -p .venv && touch .venv/installing
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -r $<
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-build-isolation --no-deps -e .
	@rm .venv/installing && touch $@

.venv/test.stamp: .venv/run.stamp requirements-dev.lock
	@touch .venv/installing
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -r requirements-dev.lock
	@rm .venv/installing && touch $@

.PHONY: run test test-system test-container check evidence fetch-small prompts real bench-referee bench-sampling bench-generation search-methods children trainers chaos bench-noop bench-train serve serve-base serve-model paper ablation references lock clean
