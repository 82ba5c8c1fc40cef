"""The spaces that ship, read over the specs that ship: what they draw can be trained, and what was learnt fits them."""

import functools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.trial_length import num_reports
from reforge.runs.tune_job import TuneOptions, tune_problems
from reforge.search import Search, compile_search
from reforge.search.dimension import Choice, Range
from reforge.search.points import parameters_of, point_problems, whole
from reforge.search.rules import scheduler_problems, search_problems
from reforge.spec import Part, load_source

ROOT = Path(__file__).parents[2]
FINETUNING = {  # the folder of ../shared/data that each needs
    "cnn_cls": "nsmc",
    "crf_ner": "klue",
    "head_choice": "question-pair",
    "smoke": None,
}
PRETRAINING = {
    "electra_generator": "kowiki",
    "mlm_pile": "pile",
    "mlm_vocab_size": "kowiki",
    "reformer_attention": "kowiki",
    "smoke_pretrain": None,
}
Shipped = Callable[..., Search[Any, TuneOptions]]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Shipped:
    """The name of a space -> the search; the working directory is the repository, as for the jobs."""
    monkeypatch.chdir(ROOT)

    def read(name: str, overrides: tuple[str, ...] = ()) -> Search[Any, TuneOptions]:
        folder = (FINETUNING | PRETRAINING)[name]
        if folder and not (ROOT / "../shared/data" / folder).is_dir():
            pytest.skip(f"needs ../shared/data/{folder}")
        return compiled(name, overrides)

    return read


@functools.cache  # the labelled files are read
def compiled(name: str, overrides: tuple[str, ...]) -> Search[Any, TuneOptions]:
    job: type[Part] = FinetuneJob if name in FINETUNING else PretrainJob
    source = load_source(Path("search_spaces") / f"{name}.yaml", overrides, dotted=("space",))
    return compile_search(source, job, TuneOptions)


def draws(search: Search[Any, TuneOptions], count: int) -> list[dict[str, Any]]:
    """Assignments that can be trained."""
    return [each for each in search.space.draws(3 * count, seed=0) if not search.violated(each)][:count]


def test_every_space_that_ships_is_tested_here() -> None:
    assert {file.stem for file in (ROOT / "search_spaces").glob("*.yaml")} == FINETUNING.keys() | PRETRAINING.keys()


@pytest.mark.parametrize(
    "name",
    [
        *sorted((FINETUNING | PRETRAINING).keys() - {"crf_ner"}),
        pytest.param("crf_ner", marks=pytest.mark.slow),  # reads and checks 5,000 tagged sentences
    ],
)
def test_a_space_draws_jobs_that_its_options_and_points_fit(name: str, shipped: Shipped) -> None:
    search = shipped(name)
    options, space = search.options, search.space
    jobs = [search.job(assignment) for assignment in draws(search, 8)]
    assert len(jobs) == 8
    assert list(tune_problems(options, space, jobs)) == []
    assert list(search_problems(options.search, len(options.metrics), space, search.violated)) == []
    assert list(scheduler_problems(options.scheduler, len(options.metrics))) == []
    assert options.scheduler.kind == "none" or num_reports(jobs[0]) > 2  # or nobody is judged before the end
    points = options.search.points_to_evaluate
    assert points
    assert list(point_problems(points, space, search.violated)) == []
    for point in points:
        assignment = whole(parameters_of(point, space), space)
        assert assignment is None or point == {path: assignment[path] for path in point}  # None: the rest is drawn


def test_the_search_of_convolutions_is_the_published_one(shipped: Shipped) -> None:
    search = shipped("cnn_cls")
    domains = {dimension.name: dimension.domain for dimension in search.space.dimensions}
    assert domains["optimizer.lr"] == Range(5e-5, 3e-3, log=True)
    assert domains["head.num_filters"] == Choice((100, 200, 300))
    assert domains["head.kernel_sizes"] == Choice(([3, 4, 5], [4, 5, 6, 7]))
    assert domains["encoder.trainable_layers"] == Choice((0, 1, 3, "all"))
    jobs = [search.job(assignment) for assignment in draws(search, 6)]
    assert {job.head.kind for job in jobs} == {"cnn", "linear"}
    assert all(job.head.dropout * 10 == pytest.approx(round(job.head.dropout * 10)) for job in jobs)


def test_the_search_of_models_is_the_published_one(shipped: Shipped) -> None:
    search = shipped("mlm_pile")
    joint = next(each for each in search.space.dimensions if "num_heads" in each.name)
    assert joint.paths == ("model.d_model", "model.num_heads")
    widths = [(width, heads) for width in range(512, 1537, 256) for heads in (8, 12, 16) if width % heads == 0]
    assert list(joint.domain.values) == widths
    feasible = sum(not search.space.violated(assignment) for assignment in search.space.draws(300, seed=0))
    assert 120 < feasible < 240
    for assignment in draws(search, 15):
        model = search.job(assignment).model
        assert 2048 <= model.d_model * model.ff_mult <= 4096


@pytest.mark.slow  # takes seconds
@pytest.mark.skipif(not (ROOT / "../shared/data/wnut17").is_dir(), reason="needs ../shared/data/wnut17")
def test_a_tagging_task_leaves_the_heads_that_tag(shipped: Shipped) -> None:
    """As head_choice.yaml says."""
    assert heads(shipped("head_choice")) == ("cnn", "linear")
    task = ("task.kind=ner", "metric.name=valid/f1", "search.points_to_evaluate=[]", "data.valid=null")
    data = ("data.train.kind=conll", "data.train.path=../shared/data/wnut17/emerging.dev.conll")
    search = shipped("head_choice", (*task, *data))
    assert heads(search) == ("linear", "crf")
    assert {search.job(assignment).head.kind for assignment in draws(search, 12)} == {"linear", "crf"}


def heads(search: Search[Any, TuneOptions]) -> tuple[str, ...]:
    (domain,) = [each.domain for each in search.space.dimensions if each.name == "head.kind"]
    assert isinstance(domain, Choice)
    return domain.values


def test_blocks_are_whole_pairs_of_buckets(shipped: Shipped) -> None:
    search = shipped("reformer_attention")
    random = Random(0)
    drawn = [search.space.assignment(search.space.draw(random)) for _ in range(30)]
    jobs = [search.job(assignment) for assignment in drawn if not search.violated(assignment)]
    assert all(job.data.block_tokens % (2 * job.model.bucket_size) == 0 for job in jobs)
    assert {job.model.attention for job in jobs} == {"lsh"}


def test_accuracy_is_refused_where_the_vocabulary_is_searched(shipped: Shipped) -> None:
    search = shipped("mlm_vocab_size", ("metric.name=valid/masked_accuracy", "metric.mode=max"))
    jobs = [search.job(assignment) for assignment in draws(search, 2)]
    (problem,) = tune_problems(search.options, search.space, jobs)
    assert "valid/bits_per_byte" in problem.rule
