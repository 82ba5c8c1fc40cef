"""The spaces that ship, read over the specs that ship."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.search.compilation import Search, compile_space
from reforge.search.dimension import Choice, Range
from reforge.search.sections import divide
from reforge.spec import Part, load_source

ROOT = Path(__file__).parents[2]
DATA = ROOT / "../shared/data"


class Unread(Part):
    """The sections beside the space are the business of runs/."""


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search[Any, Any]]:
    """The name of a space -> the search; the working directory is the repository, as for the jobs."""
    monkeypatch.chdir(ROOT)

    def read(name: str, job: type[Part]) -> Search[Any, Any]:
        source = load_source(Path("search_spaces") / f"{name}.yaml", dotted=("space",))
        sections = divide(source, job, Unread)
        space, problems = compile_space(sections, job)
        assert problems == []
        return Search(Unread(), space, sections.base, job)

    return read


@pytest.mark.skipif(not (DATA / "nsmc").is_dir(), reason="needs ../shared/data/nsmc")
def test_the_search_of_heads(shipped: Callable[..., Search[Any, Any]]) -> None:
    search = shipped("cnn_cls", FinetuneJob)
    domains = {dimension.name: dimension.domain for dimension in search.space.dimensions}
    assert domains["optimizer.lr"] == Range(5e-5, 1e-3, log=True)
    assert domains["head.kernel_sizes"] == Choice(([3, 4, 5], [4, 5, 6, 7]))
    assert domains["encoder.trainable_layers"] == Choice((0, 1, 3, "all"))
    assert search.space.feasible_share(100, seed=0) == 1.0
    random = Random(0)
    jobs = [search.job(search.space.assignment(search.space.draw(random))) for _ in range(6)]
    assert {job.head.kind for job in jobs} == {"cnn", "linear"}
    assert all(job.head.dropout * 10 == pytest.approx(round(job.head.dropout * 10)) for job in jobs)


@pytest.mark.skipif(not (DATA / "pile").is_dir(), reason="needs ../shared/data/pile")
def test_the_search_of_models(shipped: Callable[..., Search[Any, Any]]) -> None:
    search = shipped("mlm_pile", PretrainJob)
    joint = next(each for each in search.space.dimensions if "num_heads" in each.name)
    assert joint.paths == ("model.d_model", "model.num_heads")
    widths = [(width, heads) for width in range(512, 1537, 256) for heads in (8, 12, 16) if width % heads == 0]
    assert list(joint.domain.values) == widths
    assert 0.4 < search.space.feasible_share(300, seed=0) < 0.8
    for assignment in search.space.draws(30, seed=0):
        if not search.space.violated(assignment):
            model = search.job(assignment).model
            assert 2048 <= model.d_model * model.ff_mult <= 4096
