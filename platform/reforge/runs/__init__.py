"""Runs: a job spec composed into parts, trained by the loop and kept as a folder that anyone can use. No Ray here."""

from reforge.runs.dry_run import DryRun, dry_run
from reforge.runs.folder import RunFolder, RunStatus
from reforge.runs.generate import GenerationOptions, generate, generate_texts
from reforge.runs.job import PrepareJob, PretrainJob
from reforge.runs.load import Loaded, load
from reforge.runs.pretrain import PretrainResult, pretrain

__all__ = [
    "DryRun",
    "GenerationOptions",
    "Loaded",
    "PrepareJob",
    "PretrainJob",
    "PretrainResult",
    "RunFolder",
    "RunStatus",
    "dry_run",
    "generate",
    "generate_texts",
    "load",
    "pretrain",
]
