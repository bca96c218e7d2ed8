# Every target sets up .venv from requirements.txt on first use. Options: data= model= recipe= protocol= method= weights= image=
# predictions=, and anything else of configs/ through args="recipe.epochs=4 seed=1".
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready

ifdef data
  WHICH := data=$(data), as asked
else ifdef ILSVRC_ROOT
  data  := ilsvrc
  WHICH := data=ilsvrc, because ILSVRC_ROOT is set
else
  data  := shapes
  WHICH := data=shapes (built in), because neither data= nor ILSVRC_ROOT is set
endif
CHOSEN = $(foreach option,data model recipe protocol method weights image predictions,$(if $($(option)),$(option)='$($(option))')) $(args)

.DEFAULT_GOAL := help
.PHONY: help reproduce data check-data train eval-classification eval-localization tables score cam views export bench test lint

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-22s %s\n", $$1, $$2}'

reproduce: override data := shapes
reproduce: override model := alexnet_gap
reproduce: $(READY) ## the whole paper on the built-in data: train AlexNet-GAP, both evaluations, tables (4 to 9 minutes on 2 cores)
	@echo "data=shapes (built in), model=alexnet_gap"
	@$(RUN) scripts/train.py $(CHOSEN)
	@$(RUN) scripts/eval_classification.py $(CHOSEN)
	@$(RUN) scripts/eval_localization.py $(CHOSEN)
	@$(RUN) scripts/tables.py $(CHOSEN)

data: $(READY) ## download and unpack data=imagenette (1.5 GB); shapes makes itself
	@echo "$(WHICH)"
	@$(RUN) scripts/get_data.py $(CHOSEN)

check-data: $(READY) ## every picture and annotation of data= read and checked, against ILSVRC's known counts
	@echo "$(WHICH)"
	@$(RUN) scripts/check_data.py $(CHOSEN)

train: $(READY) ## fine-tune one network, model=vgg_gap; run again to resume
	@echo "$(WHICH)"
	@$(RUN) scripts/train.py $(CHOSEN)

eval-classification: $(READY) ## top-1/top-5 classification error, of model= or of every trained network
	@echo "$(WHICH)"
	@$(RUN) scripts/eval_classification.py $(CHOSEN)

eval-localization: $(READY) ## top-1/top-5 localization error from the boxes of class activation maps
	@echo "$(WHICH)"
	@$(RUN) scripts/eval_localization.py $(CHOSEN)

tables: $(READY) ## paper | reproduced | difference, into results/<data>/
	@echo "$(WHICH)"
	@$(RUN) scripts/tables.py $(CHOSEN)

score: $(READY) ## the devkit's errors of any file of guesses, predictions=guesses.txt
	@echo "$(WHICH)"
	@$(RUN) scripts/score.py $(CHOSEN)

cam: $(READY) ## one picture, image=cat.jpg model=alexnet_gap: top-5, box, heatmap in a PNG beside it
	@echo "$(WHICH)"
	@$(RUN) scripts/predict.py $(CHOSEN)

views: $(READY) ## one figure: each view's box of model= beside the true boxes, on 20 pictures
	@echo "$(WHICH)"
	@$(RUN) scripts/compare_views.py $(CHOSEN)

export: $(READY) ## the trained weights of model= as safetensors, to publish
	@echo "$(WHICH)"
	@$(RUN) scripts/export_weights.py $(CHOSEN)

bench: $(VENV)/.bench ## what each part costs beside its peer or limit, into results/bench/ (5 minutes, needs no data)
	@$(RUN) scripts/bench.py $(args)

test: $(READY) ## the whole test suite (4 minutes on 2 cores)
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=2

lint: $(READY) ## ruff, as a check
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

$(VENV)/.bench: $(READY) scripts/benchmarks/requirements.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r scripts/benchmarks/requirements.txt -c requirements.txt
	@touch $@

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d; choose one with make PYTHON=python3.11" % v)'
	@echo "setting up $(VENV) (once; torch is the large part)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
