"""Encoders of every objective and backbone under a head: each tensor accounted for, what does not fit said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from reforge.corpora.labelled import LABELLED
from reforge.loop import World, named_tensors
from reforge.models import BACKBONES
from reforge.objectives import OBJECTIVES
from reforge.runs.build import build_model
from reforge.runs.encoder import LoadReport, open_encoder
from reforge.runs.finetune import finetune, set_up, start_state
from reforge.runs.finetune_job import FinetuneJob
from reforge.spec import UserError
from reforge.tokenizers import TOKENIZERS, Vocabulary

CPU = torch.device("cpu")
MakeJob = Callable[..., FinetuneJob]
SMALL = {"d_model": 16, "depth": 2, "num_heads": 2}
MODELS: dict[str, dict[str, Any]] = {"transformer": SMALL, "reformer": {**SMALL, "bucket_size": 8}}


@pytest.fixture(scope="module")
def tokenizer(reviews_file: Path) -> Tokenizer:
    return TOKENIZERS["wordpiece"](vocab_size=200).train([reviews_file.read_text("utf-8")])


@pytest.fixture(scope="module")
def export(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from objective, backbone and options to the folder of such a run, as `pretrain` leaves it."""

    def write(objective: str = "mlm", backbone: str = "transformer", block_tokens: int = 32, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp(f"{objective}-{backbone}")
        model, task = BACKBONES[backbone](**{**MODELS[backbone], **options}), OBJECTIVES[objective]()
        module = build_model(model, task, Vocabulary.of(tokenizer), block_tokens, seed=7)
        save_file(named_tensors(module), folder / "model.safetensors")
        tokenizer.save(str(folder / "tokenizer.json"))
        config = {
            "format": 1, "model": model.model_dump(mode="json"), "objective": task.model_dump(mode="json"),
            "vocab_size": tokenizer.get_vocab_size(), "block_tokens": block_tokens,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="module")
def start(finetune_job: MakeJob) -> Callable[..., tuple[dict[str, torch.Tensor], LoadReport | None]]:
    """A function from a run's folder and overrides to the tensors before the first step, and the report."""

    def begin(run: Path, *overrides: str) -> tuple[dict[str, torch.Tensor], LoadReport | None]:
        job = finetune_job(f"encoder.run={run}", "model=null", "tokenizer=null", *overrides)
        state, report = start_state(job, set_up(job, World()), CPU)
        return named_tensors(state.model), report

    return begin


@pytest.mark.parametrize("backbone", sorted(MODELS))
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_tensor_of_the_backbone_is_taken_over(
    objective: str, backbone: str, export: Callable[..., Path], start: Callable[..., Any]
) -> None:
    run = export(objective, backbone)
    tensors, report = start(run, "head={kind: linear, pool: mean}")
    theirs = {name: t for name, t in load_file(run / "model.safetensors").items() if name.startswith("backbone.")}
    assert report.matched == sorted(theirs) == sorted(name for name in tensors if name.startswith("backbone."))
    assert report.new == []
    assert all(torch.equal(tensors[name], tensor) for name, tensor in theirs.items())
    assert report.left.keys() == load_file(run / "model.safetensors").keys() - theirs.keys()
    assert f"{len(theirs)} tensors from" in report.summary()
    if objective == "electra":
        assert "of the run's own generator" in report.left.values()


def test_a_run_of_pairs_gives_its_segments_and_another_gets_zeros(
    export: Callable[..., Path], start: Callable[..., Any], tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.tsv"
    rows = [f"review {n}\tanswer {n}\t{'yes' if n % 2 else 'no'}" for n in range(40)]
    pairs.write_text("\n".join(["text\tpair\tlabel", *rows]) + "\n", encoding="utf-8")
    of_pairs = (
        "task.kind=pair",
        f"data.train={{kind: tsv, path: {pairs}, text: text, pair: pair, label: label}}",
    )
    run = export("mlm_nsp")
    tensors, report = start(run, *of_pairs)
    [name] = [name for name in tensors if "segment" in name]
    assert tensors[name].shape[0] == 2
    assert report.new == []
    assert torch.equal(tensors[name], load_file(run / "model.safetensors")[name])
    tensors, report = start(export("mlm"), *of_pairs)
    assert report.new == [name]
    assert not tensors[name].any()


@pytest.mark.parametrize("backbone", sorted(MODELS))
def test_the_topmost_layers_are_left_out(backbone: str, export: Callable[..., Path], start: Callable[..., Any]) -> None:
    run = export("mlm", backbone, depth=3)
    whole, _ = start(run)
    tensors, report = start(run, "encoder.drop_last_layers=2")
    dropped = [name for name, reason in report.left.items() if "drop_last_layers" in reason]
    assert sorted(dropped) == sorted(name for name in whole.keys() - tensors.keys())
    assert all(torch.equal(whole[name], tensors[name]) for name in report.matched)
    with pytest.raises(UserError, match=r"encoder\.drop_last_layers: must leave one of the run's 3 layers"):
        start(run, "encoder.drop_last_layers=3")


def test_weights_of_another_size_are_refused_by_name(export: Callable[..., Path], start: Callable[..., Any]) -> None:
    run = export("mlm")
    config = json.loads((run / "config.json").read_text())
    config["model"].update(depth=3, d_model=32)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not fit the encoder") as error:
        start(run)
    assert "in the model only" in str(error.value)
    assert "16] in the file" in str(error.value)
    assert "Traceback" not in str(error.value)


def test_learnt_positions_of_another_length_say_which_option_to_set(
    export: Callable[..., Path], start: Callable[..., Any]
) -> None:
    run = export("mlm", "transformer", 64, position="absolute")
    with pytest.raises(UserError, match=r"\(positions of 64 tokens: data\.block_tokens\)"):
        start(run)
    _, report = start(run, "data.block_tokens=64")
    assert report.new == []


def test_fresh_weights_are_of_the_same_model_and_other_values(
    export: Callable[..., Path], start: Callable[..., Any]
) -> None:
    run = export("mlm")
    (taken, _), (fresh, report), (again, _) = (
        start(run),
        start(run, "encoder.weights=fresh"),
        start(run, "encoder.weights=fresh"),
    )
    assert report is None
    assert {name: tensor.shape for name, tensor in taken.items()} == {n: tensor.shape for n, tensor in fresh.items()}
    assert not any(torch.equal(taken[name], fresh[name]) for name in fresh if "backbone" in name and "embed" in name)
    assert all(torch.equal(again[name], tensor) for name, tensor in fresh.items())


def test_what_cannot_be_an_encoder_says_why(export: Callable[..., Path], start: Callable[..., Any]) -> None:
    run = export("mlm")
    with pytest.raises(UserError, match=r"encoder\.trainable_layers: must be all or at most the 2 layers"):
        start(run, "encoder.trainable_layers=3")
    whole = (run / "config.json").read_text("utf-8")
    for damaged in (whole[:-20], "{}", whole.replace("mlm", "nothing")):
        (run / "config.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match=r"config\.json is damaged, or not of this version of reforge"):
            start(run)
    (run / "config.json").write_text(whole, encoding="utf-8")
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read: "):
        start(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"is not a finished run: model\.safetensors is missing; start its job again"):
        start(run)
    with pytest.raises(UserError, match="there is no such run"):
        open_encoder(run / "none")


def test_a_head_on_the_first_token_of_a_causal_encoder_is_refused(
    export: Callable[..., Path], start: Callable[..., Any]
) -> None:
    with pytest.raises(UserError, match=r"head\.pool: must be mean: the encoder is causal"):
        start(export("causal"))


@pytest.mark.parametrize("backbone", sorted(MODELS))
def test_a_frozen_encoder_is_the_same_bit_for_bit_after_training(
    backbone: str, export: Callable[..., Path], finetune_job: MakeJob
) -> None:
    run = export("mlm", backbone)
    take = (f"encoder.run={run}", "model=null", "tokenizer=null", "train.max_epochs=1")
    job = finetune_job(f"name=frozen-{backbone}", *take, "encoder.trainable_layers=0")
    result = finetune(job, job.folder, CPU)
    before, after = load_file(run / "model.safetensors"), load_file(job.folder / "model.safetensors")
    backbone_names = [name for name in after if name.startswith("backbone.")]
    assert all(torch.equal(before[name], after[name]) for name in backbone_names)
    assert result.num_trainable == sum(tensor.numel() for name, tensor in after.items() if name.startswith("head."))


def test_a_fine_tuned_run_is_an_encoder_of_another_task(
    export: Callable[..., Path], finetune_job: MakeJob, start: Callable[..., Any], tmp_path: Path
) -> None:
    take = (f"encoder.run={export('mlm_nsp')}", "model=null", "tokenizer=null", "train.max_epochs=1")
    job = finetune_job("name=first-task", *take)
    finetune(job, job.folder, CPU)
    run = Path(shutil.copytree(job.folder, tmp_path / "run"))
    scores = tmp_path / "scores.tsv"
    scores.write_text("\n".join(["text\tpair\tscore", *(f"one {n}\ttwo {n}\t{n % 5}" for n in range(40))]) + "\n")
    read = LABELLED["tsv"](path=scores, text="text", pair="pair", label="score", score=True)  # type: ignore[call-arg]
    assert read.gives == "texts"
    tensors, report = start(
        run,
        "task={kind: similarity}",
        f"data.train={{kind: tsv, path: {scores}, text: text, pair: pair, label: score, score: true}}",
    )
    first = load_file(run / "model.safetensors")
    assert set(report.left) == {name for name in first if name.startswith("head.")}
    assert all(torch.equal(first[name], tensors[name]) for name in report.matched)
