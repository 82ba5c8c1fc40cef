"""Text from a causal model: the same with and without a cache, a function of the seed, streamed, and its command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from reforge.models import BackboneOptions
from reforge.models.reformer import ReformerOptions
from reforge.models.transformer import TransformerOptions
from reforge.objectives.causal import CausalLM, CausalLMOptions
from reforge.objectives.mlm import MaskedLMOptions
from reforge.runs import GenerationOptions, PretrainJob, generate, generate_texts, pretrain
from reforge.runs.generate import TextStream
from reforge.runs.generate_command import generate_command
from reforge.spec import SpecError, UserError
from reforge.tokenizers import SPECIAL_TOKENS, Vocabulary

ROOT = Path(__file__).parents[2]
VOCAB, BLOCK = 30, 16
SMALL = {"d_model": 16, "depth": 2, "num_heads": 2}
TRANSFORMER = TransformerOptions(**SMALL)
LSH = ReformerOptions(**SMALL, attention="lsh", bucket_size=4, num_hashes=2)


def build(options: BackboneOptions = TRANSFORMER) -> CausalLM:
    """An untrained model, sure enough of itself that no two tokens are nearly equal."""
    torch.manual_seed(0)
    model = CausalLMOptions().build(options, Vocabulary.plain(VOCAB), BLOCK).double().eval()
    with torch.no_grad():
        model.output.matrix().mul_(4)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = [*SPECIAL_TOKENS, *(f"w{i}" for i in range(VOCAB - len(SPECIAL_TOKENS) - 4)), "##s", "##ing", ".", ","]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    made.add_special_tokens(list(SPECIAL_TOKENS))
    return made


def tokens(model: CausalLM, tokenizer: Tokenizer, prompt: str = "w1 w2", **options: Any) -> list[list[int]]:
    """The tokens of each sample."""
    made = GenerationOptions(**{"max_tokens": 40, "stop": (), **options})
    samples: list[list[int]] = [[] for _ in range(made.num_samples)]
    for part in generate(model, tokenizer, prompt, made):
        samples[part.sample].append(part.token_id)
    return samples


@pytest.mark.parametrize("position", ["rotary", "absolute"])
def test_greedy_text_is_the_same_with_and_without_a_cache_also_beyond_a_block(
    position: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(TransformerOptions(**SMALL, position=position))
    assert model.backbone.new_cache() is not None
    cached = tokens(model, tokenizer, greedy=True)
    monkeypatch.setattr(model.backbone, "new_cache", lambda: None)
    assert tokens(model, tokenizer, greedy=True) == cached
    assert len(cached[0]) == 40 > BLOCK


def test_only_new_tokens_go_through_a_model_with_a_cache(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    fed: list[int] = []
    forward = model.next_logits
    monkeypatch.setattr(model, "next_logits", lambda ids, cache: fed.append(ids.shape[1]) or forward(ids, cache))
    tokens(model, tokenizer)
    # [CLS] w1 w2, then one by one until the block is full, then [CLS] and the last eleven, and again.
    assert fed == [3, *[1] * 13, *[12, 1, 1, 1, 1] * 5, 12]


@pytest.mark.parametrize("backbone", [TRANSFORMER, LSH], ids=["transformer", "lsh"])
def test_a_text_is_a_function_of_its_seed_and_number(backbone: BackboneOptions, tokenizer: Tokenizer) -> None:
    model = build(backbone)
    state = torch.random.get_rng_state()
    first = tokens(model, tokenizer, seed=3, num_samples=3, max_tokens=20)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert tokens(model, tokenizer, seed=3, num_samples=3, max_tokens=20) == first
    assert tokens(model, tokenizer, seed=3, max_tokens=20) == first[:1]
    assert tokens(model, tokenizer, seed=4, num_samples=3, max_tokens=20) != first
    assert first[0] != first[1] != first[2]


@pytest.mark.parametrize("backbone", [TRANSFORMER, LSH], ids=["transformer", "lsh"])
def test_samples_that_stop_do_not_change_the_others(backbone: BackboneOptions, tokenizer: Tokenizer) -> None:
    model = build(backbone)
    whole = tokens(model, tokenizer, seed=1, num_samples=4)
    stops = {tokenizer.token_to_id(word) for word in ("w3", "w8", "##s")}
    stopped = tokens(model, tokenizer, seed=1, num_samples=4, stop=("w3", "w8", "##s"))
    for got, full in zip(stopped, whole, strict=True):
        ends = [place + 1 for place, token in enumerate(full) if token in stops]
        assert got == full[: min(ends, default=None)]
    assert len({len(sample) for sample in stopped}) > 2


def test_one_candidate_is_greedy(tokenizer: Tokenizer) -> None:
    model = build()
    greedy = tokens(model, tokenizer, greedy=True)
    assert tokens(model, tokenizer, top_k=1, seed=5) == greedy
    assert tokens(model, tokenizer, top_p=1e-9, seed=6) == greedy
    assert tokens(model, tokenizer, temperature=1e-4, seed=7) == greedy
    assert tokens(model, tokenizer, seed=7) != greedy


def test_a_repetition_penalty_leads_out_of_a_loop(tokenizer: Tokenizer) -> None:
    model = build()
    plain, penalised = (tokens(model, tokenizer, greedy=True, repetition_penalty=x)[0] for x in (1.0, 50.0))
    assert len(set(penalised)) > len(set(plain))
    assert len(set(penalised[:15])) == 15  # the prompt's two tokens are not among them either
    assert not {tokenizer.token_to_id("w1"), tokenizer.token_to_id("w2")} & set(penalised[:15])


def test_no_special_token_is_made_but_the_end_of_a_document_which_stops(tokenizer: Tokenizer) -> None:
    model = build()
    with torch.no_grad():
        model.output.bias[:5] += 30.0
    assert tokens(model, tokenizer, greedy=True, stop=("[SEP]",)) == [[3]]
    assert tokens(model, tokenizer, greedy=True, stop=None) == [[3]]
    assert tokens(model, tokenizer, max_tokens=3) == [[3, 3, 3]]
    assert generate_texts(model, tokenizer, "w1") == [""]
    assert generate_texts(model, tokenizer, "w1", GenerationOptions(stop=(), max_tokens=1)) == ["\n\n"]


def test_an_empty_prompt_and_one_that_fills_the_block(tokenizer: Tokenizer) -> None:
    model = build()
    assert len(tokens(model, tokenizer, "")[0]) == 40
    assert len(tokens(model, tokenizer, " ".join(["w1"] * (BLOCK - 1)))[0]) == 40


def test_what_the_prompt_says_about_special_tokens_is_text(tokenizer: Tokenizer) -> None:
    """Not the end of a document: the vocabulary just has no such word."""
    assert tokens(build(), tokenizer, "w1 [SEP]", greedy=True) == tokens(build(), tokenizer, "w1 ( x )", greedy=True)


def byte_level() -> Tokenizer:
    alphabet = {char: place for place, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), start=5)}
    made = Tokenizer(models.BPE({**{name: i for i, name in enumerate(SPECIAL_TOKENS)}, **alphabet}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL_TOKENS))
    return made


def test_text_is_printed_once_it_is_final_and_never_taken_back(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.token_to_id(word) for word in ("w1", "##s", ",", "w2", "##ing", ".", "w3")]
    for num_prompt in range(len(ids)):
        stream = TextStream(tokenizer, [2, *ids[:num_prompt]], end_id=3)
        parts = [stream.add(token) for token in ids[num_prompt:]]
        assert tokenizer.decode(ids[:num_prompt]) + "".join(parts) == tokenizer.decode(ids) == "w1s, w2ing. w3"
        assert all(parts)


def test_no_broken_character_is_printed() -> None:
    made = byte_level()
    text = "가 나🙂다"
    stream = TextStream(made, [2], end_id=3)
    parts = [stream.add(token) for token in made.encode(text).ids]
    assert [part for part in parts if part] == ["가", " ", "나", "🙂", "다"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": ("w99",)}, r"stop: 'w99' is no token of this run's vocabulary; did you mean 'w9'\?"),
        ({"greedy": True, "top_k": 3}, "top_k: has no effect with greedy"),
        ({"greedy": True, "num_samples": 3}, "num_samples: must be 1 with greedy"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=message):
        generate(build(), tokenizer, "w1", GenerationOptions(**options))


def test_a_prompt_that_does_not_fit_and_a_model_of_another_objective(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"the prompt has 16 tokens; this run's blocks .* hold 15"):
        generate(build(), tokenizer, " ".join(["w1"] * BLOCK))
    with pytest.raises(UserError, match="not UTF-8 from character 4"):
        generate(build(), tokenizer, "w1 \udce9")
    masked = MaskedLMOptions().build(TRANSFORMER, Vocabulary.plain(VOCAB), BLOCK)
    with pytest.raises(UserError, match="needs a model of the objective causal"):
        generate(masked, tokenizer, "w1")
    assert issubclass(SpecError, UserError)


@pytest.fixture(scope="module")
def causal_run(tiny_job: Callable[..., PretrainJob], prepared_folder: Path) -> Path:
    """A tiny causal run, trained for real."""
    job = tiny_job("name=causal", "objective={kind: causal}", "train.max_steps=4", "scale.num_workers=1")
    pretrain(job, job.folder, prepared_folder, torch.device("cpu"))
    return job.folder


def test_a_trained_run_keeps_its_figures_and_samples(causal_run: Path) -> None:
    result = json.loads((causal_run / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"].keys() == {"loss", "perplexity", "bits_per_byte", "accuracy"}
    assert all(sample["outcome"].startswith("... ") for sample in result["samples"])
    assert len(result["samples"]) == 3


@pytest.mark.slow
def test_the_script_prints_the_prompt_and_how_it_goes_on(causal_run: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "jobs/generate.py", str(causal_run), "--prompt", "the value", "--max-tokens", "12"]
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done

    first = run("--seed", "3")
    assert first.stdout.startswith("the value")
    assert len(first.stdout) > len("the value\n")
    assert "12 tokens, " in first.stderr
    assert "Traceback" not in first.stderr
    several = run("--seed", "3", "--num-samples", "2").stdout
    assert several.startswith(f"--- 1 of 2\n{first.stdout.rstrip()}\n\n--- 2 of 2\nthe value")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(causal_run: Path) -> None:
    command = f"{sys.executable} jobs/generate.py {causal_run} --max-tokens 60 --stop w | head -c 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "BrokenPipe" not in done.stderr


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error; the command must end with code 2 and print nothing."""
    assert generate_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "0"], "--temperature: must be a number > 0; got 0.0"),
        (["--temperature", "warm"], "argument --temperature: invalid float value: 'warm'"),
        (["--top-k", "-1"], "--top-k: must be an integer >= 0; got -1"),
        (["--top-p", "1.5"], "--top-p: must be a number > 0 and <= 1; got 1.5"),
        (["--repetition-penalty", "0"], "--repetition-penalty: must be a number > 0; got 0.0"),
        (["--max-tokens", "0"], "--max-tokens: must be an integer >= 1; got 0"),
        (["--num-samples", "2", "--greedy"], "--num-samples: must be 1 with greedy"),
        (["--greedy", "--top-p", "0.5"], "--top-p: has no effect with greedy"),
        (["--stop", "[SPE]"], "stop: '[SPE]' is no token of this run's vocabulary; did you mean '[SEP]'?"),
        (["--prompt", "value " * 40], "the prompt has 40 tokens; this run's blocks (data.block_tokens) hold 31"),
        (["--tempo", "1"], "unrecognized arguments: --tempo"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], message: str, causal_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fail(capsys, str(causal_run), *arguments)


def test_runs_that_cannot_generate(
    causal_run: Path, tiny_job: Callable[..., PretrainJob], prepared_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    assert "there is no such run" in fail(capsys, str(tmp_path / "none"))
    (tmp_path / "half").mkdir()
    assert "is not a finished run" in fail(capsys, str(tmp_path / "half"))
    masked = tiny_job("name=masked", "train.max_steps=1", "scale.num_workers=1")
    pretrain(masked, masked.folder, prepared_folder, torch.device("cpu"))
    line = fail(capsys, str(masked.folder))
    assert "was trained with the objective mlm; generation needs one of the objective causal" in line
