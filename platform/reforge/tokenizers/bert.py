"""How BERT tells words apart, and the same where words are given as morphemes.

    none    학교에서 갔다.   --> 학교에서  갔다  .
    mecab   학교|에서 갔|다. --> 학교 ##에서  갔 ##다  .          | is JOINER

Punctuation and CJK ideographs are words of their own, with or without morphemes.
"""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from reforge.tokenizers.morphemes import JOINER

PREFIX = "##"
_PUNCTUATION = r"\p{P}$+<=>^`|~"


def bert_tokenizer(model: models.WordPiece, lowercase: bool, morphemes: bool) -> Tokenizer:
    """A tokenizer around a WordPiece model that leaves Korean whole and keeps accents."""
    tokenizer = Tokenizer(model)
    # Stripping accents goes through NFD, which takes Hangul syllables apart.
    bert = normalizers.BertNormalizer(strip_accents=False, lowercase=lowercase)
    steps = [normalizers.NFC(), bert, *(_morphemes_as_pieces() if morphemes else ())]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = _split_pieces() if morphemes else pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=PREFIX)
    return tokenizer


def _morphemes_as_pieces() -> list[normalizers.Normalizer]:
    """Write what follows a joiner with ##, except at the edge of a word; a # of the text is a word by itself."""
    edge = rf"(?:(?<=[\s{_PUNCTUATION}])|\A){JOINER}+|{JOINER}+(?=[\s{_PUNCTUATION}]|\z)"
    return [
        normalizers.Replace(Regex(edge), ""),
        normalizers.Replace("#", " # "),
        normalizers.Replace(Regex(f"{JOINER}+"), PREFIX),
    ]


def _split_pieces() -> pre_tokenizers.PreTokenizer:
    punctuation = Regex(f"(?!#)[{_PUNCTUATION}]")
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(PREFIX, "merged_with_next"),
            pre_tokenizers.Split(punctuation, "isolated"),
        ]
    )


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words, or morphemes, that the model of a tokenizer gets of a text."""
    assert tokenizer.normalizer is not None
    assert tokenizer.pre_tokenizer is not None
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))]
