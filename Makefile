# Each target is one line that works without make as well. ARGS go to the job or to pytest:
#   make pretrain ARGS="jobs/specs/mlm_kowiki.yaml train.max_steps=200"
.PHONY: pretrain finetune search submit test test-fast lint audit setup
.SILENT:

pretrain:
	sh setup.sh && .venv/bin/python jobs/pretrain.py $(ARGS)

finetune:
	sh setup.sh && .venv/bin/python jobs/finetune.py $(ARGS)

search:
	sh setup.sh && .venv/bin/python jobs/tune_finetune.py $(ARGS)

submit:
	sh setup.sh && .venv/bin/python jobs/submit.py $(ARGS)

test:
	sh setup.sh && sh check.sh $(ARGS)

test-fast:
	sh setup.sh && sh check.sh -m "not slow" $(ARGS)

lint:
	sh setup.sh && sh check.sh lint

audit:
	sh setup.sh && sh check.sh audit $(ARGS)

setup:
	sh setup.sh
