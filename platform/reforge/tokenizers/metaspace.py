"""White space as a character of the tokens, so that pieces join to the text that they are of.

    none    학교에서 갔다.   --> ▁학교에서  ▁갔다.
    mecab   학교|에서 갔|다. --> ▁학교  에서  ▁갔  다  .          | is JOINER

Source: Kudo and Richardson 2018 (https://arxiv.org/abs/1808.06226).
"""

from collections.abc import Sequence

from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from reforge.tokenizers.morphemes import JOINER

SPACE = "▁"


def metaspace(morphemes: bool, *further: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """Words that begin with their space, the text's first as well; then morphemes, then what is `further` asked for."""
    steps = [pre_tokenizers.Metaspace(SPACE, prepend_scheme="always"), *split_morphemes(morphemes), *further]
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def one_space_normalizer() -> normalizers.Normalizer:
    """NFC, and one space for all white space within the text."""
    one_space = normalizers.Replace(Regex(r"\s+"), " ")
    return normalizers.Sequence([normalizers.NFC(), one_space, normalizers.Strip()])


def metaspace_decoder() -> decoders.Decoder:
    """Words joined again, each mark of white space as a space."""
    return decoders.Metaspace(SPACE, prepend_scheme="always")


def split_morphemes(morphemes: bool) -> list[pre_tokenizers.PreTokenizer]:
    """The step that cuts where morphemes meet, if they count."""
    return [pre_tokenizers.Split(Regex(f"{JOINER}+"), "removed")] if morphemes else []


def split_special(tokens: Sequence[str]) -> pre_tokenizers.PreTokenizer:
    """The step that takes apart what looks like a special token in the text, for models that look up any string."""
    starts = "|".join(f"{escaped(token[0])}(?={escaped(token[1:])})" for token in tokens)
    return pre_tokenizers.Split(Regex(f"{SPACE}?(?:{starts})"), "isolated")


def escaped(text: str) -> str:
    """The text for the library's regular expressions."""
    return "".join(char if char.isalnum() else f"\\{char}" for char in text)
