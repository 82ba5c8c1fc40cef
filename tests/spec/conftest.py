"""A small job, with every sort of field that a real one has, and ways to read it from YAML text."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from pydantic import Field, field_validator

from reforge.spec import Part, Problem, SpecError, load_source, one_of, validate


class Corpus(Part):
    kind: str


class Kowiki(Corpus):
    kind: Literal["kowiki"] = "kowiki"
    path: Path
    encoding: str = "utf-8"


class PlainText(Corpus):
    kind: Literal["text"] = "text"
    path: Path
    by_line: bool = False


class Reformer(Part):
    kind: Literal["reformer"] = "reformer"
    d_model: int = Field(512, ge=1)
    depth: int = Field(6, ge=1)
    num_heads: int = Field(8, ge=1)
    bucket_size: int = Field(64, ge=1)
    axial_shape: tuple[int, int] | None = None

    def problems(self) -> Iterator[Problem]:
        if self.d_model % self.num_heads:
            yield Problem(("num_heads",), f"must divide d_model ({self.d_model})", self.num_heads)
        if self.depth > 100:
            yield Problem(("depth",), "must be at most 100", self.depth)


class Transformer(Part):
    kind: Literal["transformer"] = "transformer"
    d_model: int = Field(512, ge=1)
    kernel_sizes: tuple[int, ...] = Field((3, 4, 5), min_length=1)


CORPORA: dict[str, type[Corpus]] = {"kowiki": Kowiki, "text": PlainText}
MODELS: dict[str, type[Part]] = {"reformer": Reformer, "transformer": Transformer}
OBJECTIVES: dict[str, type[Part]] = {}


class MaskedLM(Part):
    kind: Literal["mlm"] = "mlm"
    mask_prob: float = Field(0.15, gt=0, lt=1)


OBJECTIVES["mlm"] = MaskedLM
if TYPE_CHECKING:
    AnyCorpus, AnyModel, AnyObjective = Corpus, Part, Part
else:
    AnyCorpus, AnyModel, AnyObjective = one_of(CORPORA), one_of(MODELS), one_of(OBJECTIVES)


class Data(Part):
    corpus: AnyCorpus
    block_tokens: int = 512


class Optimizer(Part):
    lr: float = Field(5e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    no_decay: tuple[str, ...] = ()


class Train(Part):
    max_steps: int = Field(ge=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    resume: bool = True
    time_budget: str | None = None

    @field_validator("time_budget")
    @classmethod
    def _has_a_unit(cls, text: str | None) -> str | None:
        if text is not None and not text.endswith(("s", "m", "h")):
            raise ValueError("must end in s, m or h")
        return text


class Scale(Part):
    num_workers: int = Field(1, ge=1)
    gpus_per_worker: float | Literal["auto"] = "auto"


class Job(Part):
    kind: Literal["pretrain"] = "pretrain"
    name: str
    data: Data
    model: AnyModel = Reformer()
    extra_models: tuple[AnyModel, ...] = ()
    objective: AnyObjective = MaskedLM()
    optimizer: Optimizer = Optimizer()
    train: Train
    scale: Scale | Literal["auto"] = "auto"
    weights: dict[str, float] = Field(default_factory=dict)


def whole_buckets(job: Job) -> Iterator[Problem]:
    """A rule across two parts, as jobs have them."""
    if isinstance(job.model, Reformer) and job.data.block_tokens % (2 * job.model.bucket_size):
        rule = f"must be a multiple of 2 x bucket_size ({2 * job.model.bucket_size})"
        yield Problem(("data", "block_tokens"), rule, job.data.block_tokens)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that messages show names relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job_type() -> type[Job]:
    return Job


@pytest.fixture
def read() -> Callable[..., Job]:
    """YAML text and overrides -> a validated Job."""

    def read_text(text: str, *overrides: str) -> Job:
        Path("job.yaml").write_text(text, encoding="utf-8")
        return validate(Job, load_source(Path("job.yaml"), overrides), [whole_buckets])

    return read_text


@pytest.fixture
def refused(read: Callable[..., Job]) -> Callable[..., list[str]]:
    """YAML text and overrides -> the lines of the SpecError that they give, without its header."""

    def read_text(text: str, *overrides: str) -> list[str]:
        with pytest.raises(SpecError) as caught:
            read(text, *overrides)
        header, *lines = str(caught.value).splitlines()
        assert header == f"{len(lines)} problem{'s' * (len(lines) > 1)} in job.yaml:"
        return [line.removeprefix("  ") for line in lines]

    return read_text
