"""The command line of generation: what it accepts and what it prints."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from reforge.corpora.place import as_place
from reforge.objectives.causal import CausalLM
from reforge.runs.command_line import Parser, ended
from reforge.runs.folder import RunFolder
from reforge.runs.generate import GenerationOptions, encode_prompt, generate
from reforge.runs.load import Loaded, load
from reforge.spec import Source, SpecError, UserError, validate
from reforge.spec.tree import Node
from reforge.tokenizers import SPECIAL_TOKENS

UNK_ID = SPECIAL_TOKENS.index("[UNK]")


def generate_command(arguments: Sequence[str] | None = None) -> int:
    """`python jobs/generate.py RUN --prompt "..." [options]`; the process's exit code."""
    return ended(lambda: _generate(arguments))


def _generate(arguments: Sequence[str] | None) -> None:
    run, prompt, options = read_arguments(arguments)
    show(load_causal(run), prompt, options)


def read_arguments(arguments: Sequence[str] | None) -> tuple[Path, str, GenerationOptions]:
    """The run, the prompt and the options; raises UserError with a line for each that cannot be."""
    given = vars(_parser().parse_args(arguments))
    run, prompt = given.pop("run"), given.pop("prompt")
    place = "command line"
    nodes = {
        key: Node([Node(v, place) for v in value] if key == "stop" else value, place) for key, value in given.items()
    }
    try:
        return run, prompt, validate(GenerationOptions, Source(place, Node(nodes, place)))
    except SpecError as error:
        lines = [str(replace(problem, place=None, path=(_flag(problem.path[0]),))) for problem in error.problems]
        raise UserError("\n".join(lines)) from None


def _flag(key: object) -> str:
    return f"--{str(key).replace('_', '-')}"


def _parser() -> Parser:
    parser = Parser(
        prog="generate.py",
        description="Let a finished run of the objective causal go on with a prompt.",
        argument_default=argparse.SUPPRESS,  # what is not given keeps the default of GenerationOptions
    )

    def add(name: str, what: str, **how: Any) -> None:
        default = GenerationOptions.model_fields[name].default
        shown = "" if default in (False, None) else f" (default: {default})"
        parser.add_argument(_flag(name), help=what + shown, **how)

    parser.add_argument("run", type=as_place, metavar="RUN", help="the run's folder, such as runs/causal-kowiki")
    parser.add_argument("--prompt", default="", help="the text to go on with (default: none, a new document)")
    add("max_tokens", "most tokens to make", type=int, metavar="N")
    add("temperature", "below 1 likely tokens become likelier", type=float, metavar="X")
    add("top_k", "draw from so many of the likeliest tokens, 0 from all", type=int, metavar="K")
    add("top_p", "draw from the fewest tokens that have this probability together", type=float, metavar="P")
    add("repetition_penalty", "above 1 tokens that stand in the text become less likely", type=float, metavar="X")
    add("stop", "tokens that end a text (default: the end of a document)", nargs="+", action="extend", metavar="TOKEN")
    add("num_samples", "texts to make", type=int, metavar="N")
    add("seed", "of the random draws", type=int, metavar="S")
    add("greedy", "always take the likeliest token", action="store_true")
    return parser


def load_causal(run: Path) -> Loaded:
    """The model and tokenizer of `run`, the model where it computes fastest.

    Raises UserError where there is no such finished run, or its objective does not predict the next token.
    """
    model, tokenizer = load(run)
    if not isinstance(model, CausalLM):
        kind = json.loads(RunFolder(run).config.read_text(encoding="utf-8"))["objective"]["kind"]
        raise UserError(f"{run} was trained with the objective {kind}; generation needs one of the objective causal")
    return Loaded(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)


def show(loaded: Loaded, prompt: str, options: GenerationOptions) -> None:
    """Print one text as it is made, or several one after the other; the prompt as the model reads it before each."""
    model, tokenizer = loaded
    parts = generate(model, tokenizer, prompt, options)
    assert isinstance(model, CausalLM)
    start = show_prompt(tokenizer, encode_prompt(model, tokenizer, prompt)[1:])
    texts = [start] * options.num_samples
    began, num_tokens = time.perf_counter(), 0
    live = options.num_samples == 1
    if live:
        print(start, end="", flush=True)
    for part in parts:
        num_tokens += 1
        texts[part.sample] += part.text
        if live:
            print(part.text, end="", flush=True)
    if live:
        print()
    for number, text in enumerate(texts if not live else [], start=1):
        print(f"--- {number} of {len(texts)}\n{text.rstrip()}\n")
    seconds = time.perf_counter() - began
    print(f"{num_tokens:,} tokens, {num_tokens / max(seconds, 1e-9):,.0f} tokens/s", file=sys.stderr)


def show_prompt(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The prompt as the model reads it; says so where it holds what the vocabulary lacks."""
    if num_unknown := ids.count(UNK_ID):
        print(
            f"{num_unknown:,} of the prompt's {len(ids):,} tokens are [UNK]: no such token was learnt", file=sys.stderr
        )
    return tokenizer.decode(ids, skip_special_tokens=False)
