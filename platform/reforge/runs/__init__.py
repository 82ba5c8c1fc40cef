"""Runs: a job spec composed into parts, trained by the loop and kept as a folder that anyone can use. No Ray here."""

from reforge.runs.dry_run import DryRun, dry_run
from reforge.runs.folder import RunFolder, RunStatus
from reforge.runs.job import PretrainJob
from reforge.runs.load import Loaded, load
from reforge.runs.pretrain import PretrainResult, pretrain

__all__ = ["DryRun", "Loaded", "PretrainJob", "PretrainResult", "RunFolder", "RunStatus", "dry_run", "load", "pretrain"]
