"""SentencePiece's .model files: pieces, scores and how text is normalized.

Source: sentencepiece_model.proto of https://github.com/google/sentencepiece, read by its own Python package.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from reforge.spec import UserError
from reforge.tokenizers.merges import merges_of
from reforge.tokenizers.metaspace import SPACE, escaped, split_morphemes

_TYPES = {1: "normal", 2: "unknown", 3: "control", 4: "user", 5: "unused", 6: "byte"}
_UNIGRAM, _BPE = 1, 2
_COMPOSING = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf")


class Piece(NamedTuple):
    """A token of SentencePiece; its type decides whether text can have it."""

    text: str
    score: float
    type: str


def pieces_of(content: bytes) -> list[Piece]:
    """The pieces of a model by their ids."""
    return _pieces(_parsed(content))


def tokenizer_of(content: bytes, name: str, morphemes: bool = False) -> Tokenizer:
    """A tokenizer that cuts text as the model in a file does.

    name: the file, for messages
    Raises UserError for what is no .model file, or a kind of it that the `tokenizers` library can't follow.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = _parsed(content)
    except DecodeError as error:
        raise UserError(f"{name} is no .model file of SentencePiece: {error}") from error
    pieces = _pieces(model)
    if not pieces:
        raise UserError(f"{name} is no .model file of SentencePiece: it has no pieces")
    if model.trainer_spec.treat_whitespace_as_suffix:
        raise UserError(f"{name} has white space at the end of its pieces, which is not supported")
    tokenizer = Tokenizer(_model(model, pieces, name))
    tokenizer.normalizer = _normalizer(model.normalizer_spec)
    symbols = [piece.text for piece in pieces if piece.type == "user"]
    if symbols and (model.trainer_spec.model_type == _BPE or not all(map(_is_stable(tokenizer.normalizer), symbols))):
        raise UserError(f"{name} has symbols of its own ({symbols[0]!r}), which is supported for unigram models only")
    tokenizer.pre_tokenizer, tokenizer.decoder = _spaces(model, pieces, morphemes)
    tokenizer.add_special_tokens([piece.text for piece in pieces if piece.type in ("unknown", "control")])
    return tokenizer


def _is_stable(normalizer: normalizers.Normalizer) -> Callable[[str], bool]:
    return lambda text: normalizer.normalize_str(text).strip() == text


def _parsed(content: bytes) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # protobuf makes it at run time
    model.ParseFromString(content)
    return model


def _pieces(model: Any) -> list[Piece]:
    return [Piece(piece.piece, piece.score, _TYPES[piece.type]) for piece in model.pieces]


def _model(model: Any, pieces: list[Piece], name: str) -> models.Model:
    unknown = next((i for i, piece in enumerate(pieces) if piece.type == "unknown"), None)
    if unknown is None:
        raise UserError(f"{name} has no unknown piece, and text outside its vocabulary would vanish")
    has_bytes = any(piece.type == "byte" for piece in pieces)
    if model.trainer_spec.model_type == _UNIGRAM:
        return models.Unigram([(piece.text, piece.score) for piece in pieces], unk_id=unknown, byte_fallback=has_bytes)
    if model.trainer_spec.model_type != _BPE:
        raise UserError(f"{name} holds a word or character model of SentencePiece: known are unigram and bpe")
    by_score = sorted((piece for piece in pieces if piece.type == "normal"), key=lambda piece: -piece.score)
    return models.BPE(
        {piece.text: i for i, piece in enumerate(pieces)},
        merges_of([piece.text for piece in by_score]),
        unk_token=pieces[unknown].text,
        fuse_unk=True,
        byte_fallback=has_bytes,
    )


def _normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = [normalizers.Replace(SPACE, " ")]
    if spec.name in _COMPOSING:
        # The library looks for what to replace letter by letter, and does not find a syllable in its parts.
        steps.append(normalizers.NFC())
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence(steps)


def _spaces(model: Any, pieces: list[Piece], morphemes: bool) -> tuple[pre_tokenizers.PreTokenizer, decoders.Decoder]:
    within_words = not any(SPACE in piece.text[1:] for piece in pieces if piece.type == "normal")
    steps = [pre_tokenizers.Metaspace(SPACE, prepend_scheme="never", split=within_words), *split_morphemes(morphemes)]
    if symbols := [piece.text for piece in pieces if piece.type == "user"]:
        steps.append(pre_tokenizers.Split(Regex("|".join(map(escaped, sorted(symbols, key=len)[::-1]))), "isolated"))
    decoding = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.normalizer_spec.add_dummy_prefix:
        decoding.append(decoders.Strip(" ", 1, 0))
    return pre_tokenizers.Sequence(steps), decoders.Sequence(decoding)
