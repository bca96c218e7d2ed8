ifeq ($(OS),Windows_NT)
  $(error cam_repro runs on Linux and macOS; on Windows use WSL (`wsl --install`) and type the same there)
endif

# Every target sets up .venv on first use. Whatever stands on make's command line as key=value is an option of the
# script: data= model= image= recipe.epochs=3; variables of the shell are not. Hydra's flags go into args="--multirun".
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready

ifneq ($(origin args),command line)
  args :=
endif

# The options as they were typed, quoted for the shell; the scripts quote them for Hydra. No name but `args` may be in
# small letters here: it would hide the option of that name.
GIVEN  := $(filter-out PYTHON VENV args,$(sort $(foreach KEY,$(.VARIABLES),$(if $(filter command,$(origin $(KEY))),$(KEY)))))
QUOTED  = '$(subst ','\'',$(value $1))'
TYPED   = $(foreach KEY,$(GIVEN),$(KEY)=$(call QUOTED,$(KEY))) $(args)

# The data set that is taken where none is named, and what is said of the one that is.
DATA :=
ifneq ($(filter data,$(GIVEN))$(filter data=%,$(args)),)
  CHOSEN = $(if $(filter data,$(GIVEN)),data=$(call QUOTED,data),$(filter data=%,$(args)))', as asked'
else ifdef ILSVRC_ROOT
  DATA   := data=ilsvrc
  CHOSEN  = '$(DATA), because ILSVRC_ROOT is set'
else
  DATA   := data=shapes
  CHOSEN  = '$(DATA), built in, because neither data= nor ILSVRC_ROOT is set'
endif

ifneq ($(filter help setup test lint,$(MAKECMDGOALS)),)
  ifneq ($(strip $(TYPED)),)
    $(error make $(MAKECMDGOALS) takes no options: $(strip $(TYPED)))
  endif
endif

SCRIPTS := data check-data train eval-classification eval-localization tables report figures curves score compare cam export release weights features svm cells

.DEFAULT_GOAL := help
.PHONY: help setup reproduce $(SCRIPTS) rehearse bench test lint

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-22s %s\n", $$1, $$2}'
	@echo; echo 'Whatever else stands there as key=value goes to the script: make train model=vgg_gap recipe.epochs=4 seed=1'

setup: $(READY) ## .venv with everything, which every other target does first

reproduce: $(READY) ## the whole paper on the built-in data: train AlexNet-GAP, both evaluations, tables, report (3 minutes on 2 idle cores)
	@$(RUN) scripts/reproduce.py $(TYPED)
	@$(RUN) scripts/train.py --part-of=$@ $(TYPED)
	@$(RUN) scripts/eval_classification.py --part-of=$@ $(TYPED)
	@$(RUN) scripts/eval_localization.py --part-of=$@ $(TYPED)
	@$(RUN) scripts/eval_localization.py --part-of=$@ $(TYPED) protocol=wsol
	@$(RUN) scripts/tables.py --part-of=$@ $(TYPED)
	@$(RUN) scripts/report.py --part-of=$@ $(TYPED)

data: ## download and unpack data=imagenette (1.5 GB) or tinyimagenet (248 MB); shapes makes itself
check-data: ## every picture and annotation of data= read and checked, against ILSVRC's known counts
train: ## fine-tune one network, model=vgg_gap; run again to resume
eval-classification: ## top-1/top-5 classification error, of model= or of every trained network
eval-localization: ## top-1/top-5 localization error from the boxes of class activation maps
tables: ## paper | reproduced | difference, into results/<data>/
report: ## results/<data>/report.html: pictures with maps, boxes and a threshold to move, why guesses fail, all errors
figures: ## the paper's figures from model=: maps of a class, of five classes, of several networks, the most telling units
curves: ## loss and errors of model=, or of every training of data=, over the epochs
score: ## the devkit's errors of any file of guesses, predictions=guesses.txt; or a folder of .npy maps, maps=folder
compare: ## two results on the same images, a=….json b=….json: the differences of their metrics, with intervals
cam: ## what is in image=cat.jpg, and where: five classes, boxes, heatmap; class="tabby cat" or top=3, out=folder
export: ## the trained weights of model= as safetensors, to publish
release: ## the three best trained networks of data= as files of 30 MB at most, each with a model card, into release/
features: ## what model= gives its classifier (the pooled maps; AlexNet's fc7) of every image, kept in runs/<data>/<model>/
svm: ## linear classifiers on kept features: accuracy over draws, svm.per_class=100; maps, boxes and figures 7 to 9 by their weights
cells: ## where the cells of a network's maps look, by its layers and by gradients on images, and boxes moved there
weights: ## fetch the published weights of model= beforehand, for machines without internet

$(SCRIPTS): $(READY)
	@$(if $(filter cam compare weights,$@),,printf '%s\n' $(CHOSEN))
	@$(RUN) scripts/$(subst -,_,$@).py $(if $(filter compare weights,$@),,$(DATA)) $(TYPED)

rehearse: $(READY) ## this machine before a long training: what it measures, what limits, how many hours (3 minutes, needs no data)
	@$(RUN) scripts/rehearse.py $(TYPED)

bench: $(VENV)/.bench ## what each part costs beside its peer or limit, into results/bench/; against=COMMIT: beside that build (17 minutes on 2 cores, needs no data)
	@$(RUN) scripts/bench.py $(TYPED)

test: $(READY) ## the whole test suite (4 minutes on 2 cores)
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=2 --dist=worksteal

lint: $(READY) ## ruff, as a check
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

$(VENV)/.bench: $(READY) scripts/benchmarks/requirements.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r scripts/benchmarks/requirements.txt -c requirements.txt
	@touch $@

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d; choose one with make PYTHON=python3.11" % v)'
	@echo "setting up $(VENV) (once; torch is the large part)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
