"""White space as a character of the tokens, so that pieces join to the text that they are of.

    none    학교에서 갔다.   --> ▁학교에서  ▁갔다.
    mecab   학교|에서 갔|다. --> ▁학교  에서  ▁갔  다  .          | is JOINER

Source: Kudo and Richardson 2018 (https://arxiv.org/abs/1808.06226).
"""

from tokenizers import Regex, decoders, pre_tokenizers

from reforge.tokenizers.morphemes import JOINER

SPACE = "▁"


def metaspace(morphemes: bool, *further: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """Words that begin with their space, the text's first as well; then morphemes, then what is `further` asked for."""
    steps = [pre_tokenizers.Metaspace(SPACE, prepend_scheme="always"), *split_morphemes(morphemes), *further]
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def metaspace_decoder() -> decoders.Decoder:
    return decoders.Metaspace(SPACE, prepend_scheme="always")


def split_morphemes(morphemes: bool) -> list[pre_tokenizers.PreTokenizer]:
    """The step that cuts where morphemes meet, if they count."""
    return [pre_tokenizers.Split(Regex(f"{JOINER}+"), "removed")] if morphemes else []
