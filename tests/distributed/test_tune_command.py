"""What is wrong with a search is said before anything starts: every mistake at once, exit code 2, no traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reforge.distributed.cluster import Resources
from reforge.distributed.tune_command import load_search, tune_command
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.search_identity import context_of
from reforge.search.study import Study

TESTS = Path(__file__).parents[1]
ACCURACY = "metric: {name: valid/accuracy}\n"
LOSS = "metric: {name: valid/loss, mode: min}\n"
RATES = "space: {optimizer.lr: [1.0e-4, 1.0e-2]}\n"
VOCABULARY = "space: {tokenizer.vocab_size: [300, 600]}\n"
HERE = Resources(2, 0, "here")

Failing = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the base specs and what they read."""
    monkeypatch.chdir(tmp_path)
    for base in ("tiny", "tiny_finetune"):
        (tmp_path / f"{base}.yaml").write_bytes((TESTS / f"{base}.yaml").read_bytes())
    Path("reviews.tsv").write_text("text\tlabel\n" + "a fine soup\tgood\na cold soup\tbad\n" * 20)
    Path("corpus.txt").write_text("a text about the weather\n\nanother one\n\n" * 50)
    return tmp_path


@pytest.fixture
def failing(folder: Path, capsys: pytest.CaptureFixture[str]) -> Failing:
    """The sections of a search from line 4 on -> what the command says on standard error; it must end with code 2."""

    def fail(text: str, *arguments: str, base: str = "tiny_finetune") -> str:
        write(text, base)
        job: Any = FinetuneJob if base == "tiny_finetune" else PretrainJob
        assert tune_command(job, Path("s.yaml"), [*arguments, f"run.storage={folder / 'runs'}"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert not (folder / "runs" / "s" / "trials").exists()
        return err

    return fail


def write(text: str, base: str = "tiny_finetune") -> None:
    """The search in s.yaml."""
    Path("s.yaml").write_text(f"kind: tune\nname: s\nextends: {base}.yaml\n{text}", encoding="utf-8")


def test_all_mistakes_at_once(failing: Failing) -> None:
    err = failing(
        """\
metric: {name: valid/acuracy}
space:
  optimizer.learning_rate: [0.1]
  optimizer.lr: {low: 1.0, high: 0.1}
  optimizer.weight_decay: {low: 0, high: 1, log: true}
  model.d_model: []
  model.dropout: [0.1, "much"]
  head:
    kind: [linear, cnn]
    when:
      crf: {dropout: [0.1]}
constraints: ["train.batch_size > 100000", "head.knid == 1"]
resources: {cpus: 4096}
"""
    )
    lines = err.splitlines()
    assert lines[0] == "10 problems in s.yaml:"
    assert [line.split(": ", 1)[0] for line in lines[1:]] == [
        f"  s.yaml:{number}" for number in (4, 6, 7, 8, 9, 10, 14, 15, 15, 16)
    ]
    for line, said in zip(
        lines[1:],
        (
            "metric.name: must be one of valid/accuracy, valid/macro_f1, valid/loss, num_parameters,",
            "optimizer.learning_rate: unknown key; the keys here are kind, lr,",
            "optimizer.lr: low must be below high (0.1); got 1.0",
            "optimizer.weight_decay: low must be above 0 where log is true; got 0",
            "model.d_model: an empty choice: must hold at least one value",
            "model.dropout: must be a number >= 0 and < 1; got 'much'",
            "head.kind: when is for a value that is not among the choices (linear, cnn); got 'crf'",
            "constraints[0]: nothing satisfies it: false for every combination",
            "constraints[1]: head.knid is no option of the job; got 'head.knid == 1'; did you mean head.kind?",
            "resources.cpus: a trial needs 4096 CPUs, and this machine has ",
        ),
        strict=True,
    ):
        assert said in line


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("", "metric: missing; must be a mapping or a list of values, each a mapping"),
        ("metric: valid/accuracy\n", "s.yaml:4: metric: must be a mapping or a list of values, each a mapping; got"),
        ("metric: []\n", "s.yaml:4: metric: must name one metric at least"),
        ("metric: {nam: valid/accuracy}\n", "s.yaml:4: metric.nam: unknown key; did you mean name?"),
        ("metric: {name: accuracy}\n", "got 'accuracy'; did you mean valid/accuracy?"),
        ("metric: {name: valid/macro_f11}\n", "got 'valid/macro_f11'; did you mean valid/macro_f1?"),
        ("metric: {name: valid/accuracy, mode: min}\n", "s.yaml:4: metric.mode: must be max: valid/accuracy is better"),
        ("metric: {name: valid/accuracy, mode: mox}\n", "s.yaml:4: metric.mode: must be 'max' or 'min'; got 'mox'"),
        ("metric: {name: test/accuracy}\n", "the test set is for the end: searching on it would spoil it; cv gives"),
        ("metric: [{name: valid/loss, mode: min}, {mode: max}]\n", "s.yaml:4: metric[1].name: missing; must be a"),
        ("metric: [{name: valid/loss}, {name: valid/f1}]\n", "s.yaml:4: metric[0].mode: must be min: valid/loss"),
        ("metric: [{name: valid/accuracy}, {name: valid/accuracy}]\n", "metric: must not name a metric twice"),
    ],
)
def test_a_wrong_metric(failing: Failing, metric: str, said: str) -> None:
    assert said in failing(metric + RATES)


def test_a_search_is_kept_in_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(ACCURACY + RATES)
    assert tune_command(FinetuneJob, Path("s.yaml"), ["run.storage=memory://runs"]) == 2
    said = "run.storage: must be a folder that all nodes have in common: a search is not kept in a store"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("metric", [LOSS, "metric: {name: valid/masked_accuracy}\n"])
def test_metrics_that_smaller_vocabularies_win(failing: Failing, metric: str) -> None:
    err = failing(metric + VOCABULARY, base="tiny")
    assert "is not comparable between trials: tokenizer.vocab_size is searched" in err
    assert "take valid/bits_per_byte; metric.insist: true takes it all the same" in err
    write(metric.replace("}", ", insist: true}") + VOCABULARY, "tiny")
    assert load_search(Path("s.yaml"), [], PretrainJob, HERE).options.metrics[0].insist


@pytest.mark.parametrize("metric", [LOSS, "metric: {name: valid/bits_per_byte, mode: min}\n"])
def test_metrics_that_less_masking_wins(failing: Failing, metric: str) -> None:
    masking = "space: {objective.mask_prob: [0.1, 0.3]}\n"
    err = failing(metric + masking, base="tiny")
    assert "is not comparable between trials: objective.mask_prob, which is searched, decides how hard" in err
    write(metric.replace("}", ", insist: true}") + masking, "tiny")
    assert load_search(Path("s.yaml"), [], PretrainJob, HERE).options.metrics[0].insist


def test_of_folds_the_test_sets_may_be_asked_for(folder: Path) -> None:
    write("metric: {name: test/accuracy}\ncv: {folds: 3}\ndata: {test_fraction: 0.0}\n" + RATES)
    assert load_search(Path("s.yaml"), [], FinetuneJob, HERE).options.metrics[0].name == "test/accuracy"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ('constraints: ["optimizer.lr > 1"]\n', "s.yaml:6: constraints[0]: nothing satisfies it"),
        ("resources: {cpus: 4096}\n", "s.yaml:6: resources.cpus: a trial needs 4096 CPUs, and "),
        ("resources: {gpus: 4096}\n", "s.yaml:6: resources.gpus: a trial needs 4096 GPUs, and "),
        ("resources: {num_workers: 64}\n", "resources.num_workers: must be at most what a step of the smallest trial"),
        ("resources: {gpus: 1.5}\n", "resources.gpus: must be auto, a fraction of one GPU, or a whole number; got 1.5"),
        ("scheduler: {kind: ahsa}\n", "s.yaml:6: scheduler.kind: unknown kind; must be one of "),
        ("schedular: {kind: asha}\n", "s.yaml:6: schedular: unknown key; did you mean scheduler?"),
        ("search: {sampler: {kind: grid}}\nstop: {max_time: 3}\n", "stop.max_time: must be"),
        ("search: {time_budget: soon}\n", "s.yaml:6: search.time_budget: must be"),
        ("search: {points_to_evaluate: [{optimizer.lr: 3.0}]}\n", "search.points_to_evaluate"),
        ("train: {max_epochs: -1}\n", "s.yaml:6: train.max_epochs: must be"),
    ],
)
def test_a_wrong_section(failing: Failing, sections: str, said: str) -> None:
    assert said in failing(ACCURACY + RATES + sections)


@pytest.mark.parametrize(
    "wrong",
    ["search: {num_trials: 0}", "scheduler: {kind: ahsa}", "schedular: {kind: asha}", "resources: {cpus: many}"],
)
def test_a_metric_is_held_against_the_jobs_beside_a_wrong_section(failing: Failing, wrong: str) -> None:
    err = failing("metric: [{name: valid/acuracy}, {name: valid/loss, mode: min}]\n" + RATES + wrong + "\n")
    assert err.startswith("2 problems in s.yaml:\n")
    assert "s.yaml:4: metric[0].name: must be one of valid/accuracy" in err
    assert f"s.yaml:6: {wrong.split(':')[0]}" in err


def test_a_scheduler_has_one_metric(failing: Failing) -> None:
    several = "metric: [{name: valid/accuracy}, {name: valid/loss, mode: min}]\n"
    err = failing(several + RATES + "scheduler: {kind: asha}\n")
    assert "s.yaml:6: scheduler.kind: compares trials by one metric, and none of several comes first" in err


def test_a_space_that_extends_another_kind_of_job(failing: Failing) -> None:
    write(ACCURACY + RATES, "tiny")
    err = failing(ACCURACY + RATES.replace("space", "extends: tiny.yaml\nspace"))
    assert "s.yaml" in err


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("mysql+nodriver://me:secret@127.0.0.1:1/none", "storage mysql+nodriver://me:***@127.0.0.1:1/none is neither"),
        ("postgresql://me:secret@host:port/none", "storage postgresql://... is neither a path nor a database's URL"),
        ("reviews.tsv", "storage reviews.tsv is no journal of Optuna's"),
        ("reviews.tsv/study.journal", "storage reviews.tsv/study.journal cannot be used: "),
        ("sqlite:///no/such/folder/study.db", "storage sqlite:///no/such/folder/study.db cannot be reached: "),
    ],
)
def test_a_storage_that_cannot_be_reached(failing: Failing, storage: str, said: str) -> None:
    err = failing(ACCURACY + RATES + f"storage: {json.dumps(storage)}\n")
    assert err.startswith(said)
    assert "secret" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("sections", "difference"),
    [
        (ACCURACY + "space: {optimizer.lr: [1.0e-4, 1.0e-3]}\n", "space optimizer.lr: there "),
        (LOSS + RATES, "metric valid/loss: there nothing; here min, best"),
        (ACCURACY + RATES + "model: {depth: 1}\n", "model.depth: there 2; here 1"),
    ],
)
def test_a_name_that_belongs_to_another_search(failing: Failing, folder: Path, sections: str, difference: str) -> None:
    write(ACCURACY + RATES)
    search = load_search(Path("s.yaml"), [f"run.storage={folder / 'runs'}"], FinetuneJob, HERE)
    options = search.options
    context = context_of(search)
    Study("s", search.space, options.search, options.metrics, options.study_storage, search.violated, context)
    err = failing(sections)
    assert err.startswith("study 's' belongs to another search:\n")
    assert f"  {difference}" in err
    assert err.endswith("choose another name, or start it anew in another storage\n")
