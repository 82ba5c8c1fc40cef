"""A list of fine-tunings from one encoder: its job spec, and the jobs that it stands for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from reforge.runs.finetune_job import EncoderOptions, FinetuneJob, Repeat
from reforge.runs.job import RunOptions, ScaleOptions
from reforge.spec import Part, Problem, SpecError, UserError, load_source, validate

SCRATCH = "from scratch"


class SuiteEntry(Part):
    """One fine-tuning of a suite.

    spec: its job spec, a path from where the job is started or beside the suite's own file
    set: the name of its labelled set among the published scores; null: the spec's name
    overrides: `key.path=value` on top of the spec, as on the command line
    """

    spec: Path
    set: str | None = None
    overrides: tuple[str, ...] = ()


class SuiteJob(Part):
    """A suite: every entry is run from the encoder, and from scratch where `compare_scratch` says so.

    encoder: in place of that of each spec
    compare_scratch: also the same model with fresh weights, so that the gain from pre-training is seen
    repeat: in place of that of each spec
    references: a file of published scores, to stand beside ours
    scale: what each run may use; as many run at once as the cluster has room for
    """

    kind: Literal["suite"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    encoder: EncoderOptions
    compare_scratch: bool = False
    finetunings: tuple[SuiteEntry, ...] = Field(min_length=1)
    repeat: Repeat | None = None
    references: Path | None = None
    scale: ScaleOptions = ScaleOptions()
    run: RunOptions = RunOptions()

    @property
    def folder(self) -> Path:
        """Where the suite's runs and its table are kept."""
        return self.run.folder / self.name

    def problems(self) -> Iterator[Problem]:
        """The suite is about an encoder."""
        if self.encoder.run is None:
            yield Problem(("encoder", "run"), "must be given: a suite is of one encoder", None)

    def jobs(self, beside: Path) -> dict[str, "SuiteRun"]:
        """The fine-tunings by label; raises UserError with what is wrong in any of their specs.

        beside: the folder of the suite's own file, for specs that are not found from here
        """
        runs: dict[str, SuiteRun] = {}
        troubles: list[str] = []
        for entry in self.finetunings:
            for scratch in (False, True) if self.compare_scratch else (False,):
                try:
                    run = self._run(entry, beside, scratch)
                except SpecError as error:
                    troubles.append(str(error))
                    break
                if run.label in runs:
                    troubles.append(f"finetunings: two entries are called {run.label}; override name in one of them")
                runs[run.label] = run
        if troubles:
            raise UserError("\n".join(troubles))
        return runs

    def _run(self, entry: SuiteEntry, beside: Path, scratch: bool) -> "SuiteRun":
        path = entry.spec if entry.spec.is_file() else beside / entry.spec
        job = validate(FinetuneJob, load_source(path, entry.overrides))
        encoder = self.encoder.model_copy(update={"weights": "fresh", "trainable_layers": "all"} if scratch else {})
        changes: dict[str, Any] = {
            "name": f"{job.name}-scratch" if scratch else job.name,
            "encoder": encoder,
            "model": None,
            "tokenizer": None,
            "scale": self.scale,
            "run": self.run.model_copy(update={"storage": self.run.storage / self.name}),
            **({"repeat": self.repeat} if self.repeat else {}),
        }
        assert self.encoder.run is not None
        return SuiteRun(
            set_name=entry.set or job.name,
            encoder=SCRATCH if scratch else self.encoder.run.name,
            job=job.model_copy(update=changes),
        )


class SuiteRun:
    """One fine-tuning of a suite, with what it is called in the table."""

    def __init__(self, set_name: str, encoder: str, job: FinetuneJob) -> None:
        self.set_name, self.encoder, self.job = set_name, encoder, job

    @property
    def label(self) -> str:
        """Its name among the suite's runs."""
        return self.job.name
