"""An existing tokenizer's vocabulary with our special tokens in front; what text is cut into stays as it was.

    ids  0 ........ n-1   special tokens, those that were missing among them; the unknown token is [UNK]
         n ............   all other tokens in their order

Special tokens that it had besides are left out: no text has them, and nothing here would place them.
"""

import json
from collections.abc import Sequence
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from reforge.spec import UserError
from reforge.tokenizers.metaspace import split_special

Parts = dict[str, Any]
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
_NUM_BYTES = 256


def renumber(parts: Parts, special_tokens: Sequence[str], name: str) -> Parts:
    """The parts of a tokenizer.json, renumbered.

    name: the file, for messages
    Raises UserError for a model that leaves out what it does not know, or of a kind that is not known here.
    """
    model = parts["model"]
    unknown = _unknown_token(model, name)
    others = {token["content"] for token in parts["added_tokens"] if token["special"]} - {unknown, *special_tokens}
    names = [token for token in _tokens(model) if token not in {unknown, *special_tokens, *others}]
    model = _with_vocabulary(model, [*special_tokens, *names], unknown)
    kept = [token for token in parts["added_tokens"] if not token["special"]]
    return {
        **parts,
        "model": model,
        "added_tokens": _added_tokens(kept, _tokens(model), special_tokens),
        "pre_tokenizer": _guarded(parts["pre_tokenizer"], model, special_tokens),
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def _tokens(model: Parts) -> list[str]:
    """The tokens of a model by their ids."""
    if model["type"] == "Unigram":
        return [token for token, _ in model["vocab"]]
    return sorted(model["vocab"], key=model["vocab"].__getitem__)


def _unknown_token(model: Parts, name: str) -> str | None:
    """The token of what a model does not know; None where there can be nothing."""
    match model["type"]:
        case "Unigram":
            token = None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
        case "BPE" | "WordPiece" | "WordLevel":
            token = model["unk_token"]
        case kind:
            raise UserError(f"{name} holds a {kind} model: known are WordPiece, BPE, Unigram and WordLevel")
    if token is None and not _knows_all_bytes(model):
        raise UserError(
            f"{name} has no unknown token, and text outside its vocabulary would vanish: name one in the model's "
            f"{'unk_id' if model['type'] == 'Unigram' else 'unk_token'}"
        )
    return token


def _knows_all_bytes(model: Parts) -> bool:
    tokens = set(_tokens(model))
    if model.get("byte_fallback"):
        return all(f"<0x{byte:02X}>" in tokens for byte in range(_NUM_BYTES))
    return tokens.issuperset(ByteLevel.alphabet())


def _with_vocabulary(model: Parts, order: list[str], unknown: str | None) -> Parts:
    """The model with its tokens in an order, in which its unknown token is called [UNK]."""
    if model["type"] == "Unigram":
        scores = {("[UNK]" if token == unknown else token): score for token, score in model["vocab"]}
        vocabulary = [[token, scores.get(token, 0.0)] for token in order]
        return {**model, "vocab": vocabulary, "unk_id": None if unknown is None else order.index("[UNK]")}
    renamed = {**model, "vocab": {token: i for i, token in enumerate(order)}}
    return renamed if unknown is None else {**renamed, "unk_token": "[UNK]"}


def _added_tokens(others: list[Parts], tokens: list[str], special_tokens: Sequence[str]) -> list[Parts]:
    """Our special tokens, and what else the tokenizer looks for in the text with its new ids."""
    ids = {token: i for i, token in enumerate(tokens)}
    for token in sorted(others, key=lambda token: int(token["id"])):
        ids.setdefault(token["content"], len(ids))
    added: list[Parts] = [*({"content": token, **_ADDED} for token in special_tokens), *others]
    return sorted(({**token, "id": ids[token["content"]]} for token in added), key=lambda token: token["id"])


def _guarded(pre_tokenizer: Parts | None, model: Parts, special_tokens: Sequence[str]) -> Parts | None:
    """With a step that keeps a model which looks up any string from finding [MASK] in the text."""
    if model["type"] != "Unigram":
        return pre_tokenizer
    guard = json.loads(split_special(special_tokens).__getstate__())
    if pre_tokenizer is None:
        return Parts(guard)
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    return {"type": "Sequence", "pretokenizers": [*steps, guard]}
