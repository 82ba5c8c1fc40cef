"""Text from a causal model: a prompt and how the model goes on, token by token.

    prompt --tokenizer--> [CLS] ids --Context.next_logits--> --sampling--> token --TextStream--> text that is final
                               ^---------------- taken up, until a stop token --'

Shapes: B samples that still go on, T tokens, V vocabulary.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import NamedTuple

import torch
from pydantic import Field
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from reforge.objectives import Objective
from reforge.objectives.causal import CausalLM
from reforge.runs.sampling import SamplingOptions
from reforge.spec import Problem, SpecError, UserError
from reforge.tokenizers import SPECIAL_TOKENS, Encoder

CLS_ID = SPECIAL_TOKENS.index("[CLS]")
# How much of a full block is let go at once: going on token by token would cost a pass over a whole block each.
DROPPED_SHARE = 4


class GenerationOptions(SamplingOptions):
    """How much text is made, where it ends, and how each token is chosen.

    max_tokens: tokens made beyond the prompt, at most
    stop: tokens that end a text; null: the one at the end of a document, [SEP] or [EOD] by the run's data.separator
    num_samples: texts made at once; each has a random state of its own, from `seed` and its number
    """

    max_tokens: int = Field(100, ge=1)
    stop: tuple[str, ...] | None = None
    num_samples: int = Field(1, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)

    def problems(self) -> Iterator[Problem]:
        """Without chance all samples are one."""
        yield from super().problems()
        if self.greedy and self.num_samples > 1:
            yield Problem(("num_samples",), "must be 1 with greedy, which gives one text only", self.num_samples)


class Generated(NamedTuple):
    """One more token of a sample, and what it makes final of the sample's text; tokens may wait for the next."""

    sample: int
    token_id: int
    text: str


def generate(
    model: Objective, tokenizer: Tokenizer, prompt: str, options: GenerationOptions | None = None
) -> Iterator[Generated]:
    """Every token of every sample as it is made; the texts are those after the prompt.

    The same model, prompt and options give the same tokens. Raises UserError, before anything is made, where the model
    predicts no next token, the prompt does not fit into a block or the options cannot be.
    """
    options = options or GenerationOptions()
    if problems := list(options.problems()):
        raise SpecError(problems)
    if not isinstance(model, CausalLM):
        raise UserError(f"generation needs a model of the objective causal, got {type(model).__name__}")
    if options.stop is None:
        stop_ids = {model.vocabulary.document_end}
    else:
        stop_ids = {find_token(tokenizer, name) for name in options.stop}
    return _generate(model, tokenizer, encode_prompt(model, tokenizer, prompt), stop_ids, options)


def generate_texts(
    model: Objective, tokenizer: Tokenizer, prompt: str, options: GenerationOptions | None = None
) -> list[str]:
    """What `generate` adds to the prompt, a text for each sample."""
    options = options or GenerationOptions()
    texts = [""] * options.num_samples
    for part in generate(model, tokenizer, prompt, options):
        texts[part.sample] += part.text
    return texts


def encode_prompt(model: CausalLM, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """[CLS] and the prompt's ids; what it says about [SEP] is text, as in training. Raises UserError if too long."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the prompt is not UTF-8 from character {error.start + 1} on") from None
    [ids] = Encoder(tokenizer).encode([prompt])
    room = model.backbone.frame.block_tokens - 1
    if len(ids) > room:
        raise UserError(f"the prompt has {len(ids):,} tokens; this run's blocks (data.block_tokens) hold {room:,}")
    return [CLS_ID, *ids.tolist()]


def find_token(tokenizer: Tokenizer, name: str) -> int:
    """The id of a token; raises UserError with the nearest one where there is none of this name."""
    token_id = tokenizer.token_to_id(name)
    if token_id is None:
        near = get_close_matches(name, tokenizer.get_vocab(), n=1, cutoff=0.0)
        raise UserError(f"stop: {name!r} is no token of this run's vocabulary; did you mean {near[0]!r}?")
    return token_id


def _generate(
    model: CausalLM, tokenizer: Tokenizer, prompt_ids: list[int], stop_ids: set[int], options: GenerationOptions
) -> Iterator[Generated]:
    samples, end_id = list(range(options.num_samples)), model.vocabulary.document_end
    streams = [TextStream(tokenizer, prompt_ids, end_id) for _ in samples]
    generators = [new_generator(options.seed, sample) for sample in samples]
    context = Context(model, prompt_ids, options.num_samples, options.seed)
    for _ in range(options.max_tokens):
        logits_BV = context.next_logits()
        # A model may give these some probability, but no text has them.
        logits_BV[:, model.vocabulary.never_text] = -torch.inf
        tokens_B = options.choose(logits_BV, context.seen_BV, [generators[sample] for sample in samples])
        context.append(tokens_B)
        tokens = tokens_B.tolist()
        for sample, token in zip(samples, tokens, strict=True):
            ends_here = token == end_id and token in stop_ids  # no empty line after the last document
            yield Generated(sample, token, "" if ends_here else streams[sample].add(token))
        going_on = [row for row, token in enumerate(tokens) if token not in stop_ids]
        if not going_on:
            return
        if len(going_on) < len(samples):
            samples = [samples[row] for row in going_on]
            context.select(going_on)


def new_generator(seed: int, sample: int) -> torch.Generator:
    """The random state of a sample: the same whatever the number of samples."""
    return torch.Generator().manual_seed(seed * 2**31 + sample)


class Context:
    """What the model sees of growing texts: [CLS] and, when a block is full, about its last three quarters."""

    def __init__(self, model: CausalLM, ids: list[int], num_samples: int, seed: int) -> None:
        self.model = model
        self.seed = seed
        weight = model.output.matrix()
        self.ids_BT = torch.tensor([ids] * num_samples, device=weight.device)
        self.seen_BV = torch.zeros(num_samples, len(weight), dtype=torch.bool, device=weight.device)
        self.seen_BV[:, ids[1:]] = True
        self.cache = model.backbone.new_cache()

    def next_logits(self) -> Tensor:
        """Logits [B, V] of the next token; only what the cache does not hold yet goes through the model."""
        block_tokens = self.model.backbone.frame.block_tokens
        if self.ids_BT.shape[1] > block_tokens:
            num_kept = block_tokens - 1 - block_tokens // DROPPED_SHARE
            self.ids_BT = torch.cat((self.ids_BT[:, :1], self.ids_BT[:, -num_kept:]), dim=1)
            self.cache = self.model.backbone.new_cache()
        num_known = 0 if self.cache is None else self.cache.num_tokens
        device = self.ids_BT.device
        # LSH attention draws its hashes: the same ones at every step, and whoever calls keeps their random state.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            return self.model.next_logits(self.ids_BT[:, num_known:], self.cache)

    def append(self, tokens_B: Tensor) -> None:
        """Take up one more token a text."""
        tokens_B1 = tokens_B.to(self.ids_BT.device)[:, None]
        self.ids_BT = torch.cat((self.ids_BT, tokens_B1), dim=1)
        self.seen_BV.scatter_(1, tokens_B1, True)

    def select(self, rows: list[int]) -> None:
        """Go on with some of the texts only."""
        rows_B = torch.tensor(rows, device=self.ids_BT.device)
        self.ids_BT, self.seen_BV = self.ids_BT[rows_B], self.seen_BV[rows_B]
        if self.cache is not None:
            self.cache.select(rows_B)


class TextStream:
    """Tokens in, text out as soon as no later token can change it; a document's end is an empty line."""

    def __init__(self, tokenizer: Tokenizer, ids: list[int], end_id: int) -> None:
        self.tokenizer = tokenizer
        self.end_id = end_id
        # What stands before decides whether a space does: the stream begins with the prompt.
        self.stream = DecodeStream(ids=ids, skip_special_tokens=True)

    def add(self, token_id: int) -> str:
        """What `token_id` makes final: nothing, where a character or word needs more tokens."""
        if token_id == self.end_id:
            self.stream = DecodeStream(skip_special_tokens=True)
            return "\n\n"
        return self.stream.step(self.tokenizer, token_id) or ""
