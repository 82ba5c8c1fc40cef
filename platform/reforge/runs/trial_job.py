"""What a trial of a search trains."""

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob

TrialJob = FinetuneJob | PretrainJob
