"""What every tokenizer must do, with and without morphemes; a new line in TOKENIZERS is tested here by itself."""

import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from reforge.tokenizers import EOD, SPECIAL_TOKENS, TOKENIZERS, Encoder, TokenizerOptions, Vocabulary
from reforge.tokenizers.morphemes import JOINER, Morphemes, wants_morphemes
from reforge.tokenizers.sample import sample

TEXTS = [
    "학교에서 친구를 만났다. 친구와 함께 도서관에 갔고, 책을 두 권 빌렸다!\n저녁에는 집에서 밥을 먹었다.",
    "나는 학교에 가는 친구를 좋아한다. 漢字와 English words, café, 123도 (가끔) 있다?",
    "The library opens at 9:30. Don't be late, we'll wait... [MASK] is a word; #tags and ##more \"too\".",
] * 4
# Encoded and restored as it is, up to white space where a kind says so.
PLAIN = ["친구와 학교에서 만났다.", "The friend's library", "漢字와 café 123", "책을 빌렸다!  집에서\n밥을 먹었다"]
NASTY = [
    *("", " ", "  ", "\n", "a", " a", "a ", "  a  b  ", "학교에서\t갔다.\n\n그는  \n 갔다", "\r\n a\r b", "\t a"),
    *(
        "\x1c",
        "a\x1cb a\x1d b \x1e c\x1f",
        ".\x1c. .",
        "a\x85b \x85 c\x85",
        "a\u2028b\u2029 c",
        "a\xa0b \xa0 c",
        "a\u3000b",
    ),
    *(
        "a\x0bb \x0c c",
        "\u200b학교\u200b에서 \u200b",
        "\ufeffa",
        "e\u0301 \u0301e \u0301",
        "\u1100\u1161 \u11a8 \u1161",
    ),
    *(unicodedata.normalize("NFD", "학교에서 갔다 각"), "👨‍👩‍👧‍👦 가족🇰🇷 👍🏽", "[MASK] a[MASK]b [PAD][UNK] [EOD]x"),
    *("漢字と日本語です。", "▁a b▁c ▁", "#a ##b a#b", f"x{JOINER}y {JOINER} z", "a\x00b \x00 c", "İstanbul ß ﬁ ΑΣ Σ"),
    *("don't we'll 'tis", '(d) "f"', "１２３ ½ ①②", "\u0600a", "\U0010ffff\ue000 a", "가" * 3000, "가나다 " * 500),
]
ALPHABET = [
    *" \n\t\r.#'sa학교에서\x1c\x85\xa0漢▁1½İ\x00\x0bĠ",
    "\u1100\u1161",
    "\u11a8",
    "\u0301",
    "\u2028",
    "\u3000",
    "\u200d",
]
ALPHABET += ["\u200b", "\u180e", "\ufeff", JOINER, "👩", "[MASK]", "  ", " "]
# All characters that are neither letters nor signs that stand for themselves.
ODD = [chr(i) for i in range(0x3100) if unicodedata.category(chr(i)) in ("Cc", "Cf", "Zs", "Zl", "Zp")]

VARIANTS = [(kind, cut) for kind in TOKENIZERS for cut in ("none", "mecab") if (kind, cut) != ("character", "mecab")]
needs_mecab = pytest.mark.skipif(find_spec("mecab") is None, reason="python-mecab-ko is not installed")
each_variant = pytest.mark.parametrize(
    ("kind", "pretokenize"),
    [
        pytest.param(*variant, marks=[needs_mecab] * (variant[1] == "mecab"), id="-".join(variant))
        for variant in VARIANTS
    ],
)
each_trained = pytest.mark.parametrize("kind", [kind for kind, part in TOKENIZERS.items() if part.is_trained])


def options(kind: str, pretokenize: str = "none", vocab_size: int = 420) -> TokenizerOptions:
    if TOKENIZERS[kind].is_trained:
        return TOKENIZERS[kind](vocab_size=vocab_size, pretokenize=pretokenize)
    return TOKENIZERS[kind](path=vocabulary_file(), pretokenize=pretokenize)


@cache
def vocabulary_file() -> Path:
    path = Path(tempfile.mkdtemp(prefix="reforge-test-")) / "vocab.txt"
    tokens = sorted(tokenizer("wordpiece").get_vocab().items(), key=lambda item: -item[1])  # special tokens last
    path.write_text("".join(f"{token}\n" for token, _ in tokens), encoding="utf-8")
    return path


@cache
def tokenizer(kind: str, pretokenize: str = "none") -> Tokenizer:
    return options(kind, pretokenize).train(TEXTS, (*SPECIAL_TOKENS, EOD))


def marked(made: Tokenizer, text: str) -> str:
    return Morphemes.of(made).mark(text) if wants_morphemes(made) else text


def ids_by_the_library(made: Tokenizer, texts: list[str]) -> list[list[int]]:
    library = Tokenizer.from_str(made.to_str())
    library.encode_special_tokens = True
    morphemes = Morphemes.of(made) if wants_morphemes(made) else None
    texts = [morphemes.mark(text) for text in texts] if morphemes else texts
    return [encoding.ids for encoding in library.encode_batch_fast(texts, add_special_tokens=False)]


def ids_by_the_encoder(made: Tokenizer, texts: list[str]) -> list[list[int]]:
    encoder = Encoder(made, cache_bytes=20_000)  # so small that words are forgotten on the way
    batches = [texts[start : start + 40] for start in range(0, len(texts), 40)]
    return [ids.tolist() for batch in batches for ids in encoder.encode(batch)]


@each_variant
def test_special_tokens_have_their_ids_and_no_other_token_is_special(kind: str, pretokenize: str) -> None:
    for special in (SPECIAL_TOKENS, (*SPECIAL_TOKENS, EOD)):
        made = options(kind, pretokenize).train(TEXTS, special)
        assert [made.token_to_id(token) for token in special] == list(range(len(special)))
        assert {token.content for token in made.get_added_tokens_decoder().values() if token.special} == set(special)
        assert Vocabulary.of(made).num_special == len(special)
        assert not set(ids_by_the_encoder(made, ["친구 [MASK] [EOD]"])[0]) & {0, 2, 3, 4, made.token_to_id(EOD)}
        assert made.get_vocab_size() == max(made.get_vocab().values()) + 1


@each_variant
def test_decoding_restores_the_text(kind: str, pretokenize: str) -> None:
    made = tokenizer(kind, pretokenize)
    for text in PLAIN:
        ids = ids_by_the_encoder(made, [text])[0]
        assert made.token_to_id("[UNK]") not in ids
        got = made.decode(ids)
        if kind in ("wordpiece", "existing"):  # words and punctuation are joined by rule
            assert "".join(got.split()) == "".join(text.split())
        elif kind == "unigram":
            assert got.split() == text.split()
        else:
            assert got == text


@each_variant
def test_spaces_between_words_are_restored(kind: str, pretokenize: str) -> None:
    made = tokenizer(kind, pretokenize)
    text = "친구와 학교에서 만났다 친구를 좋아한다"
    assert made.decode(ids_by_the_encoder(made, [text])[0]) == text


@each_variant
def test_no_piece_goes_across_the_end_of_a_word(kind: str, pretokenize: str) -> None:
    made = tokenizer(kind, pretokenize)
    for token in made.get_vocab():
        assert not any(char.isspace() for char in token[1:]) or token.isspace()
        assert "▁" not in token.replace("▁▁", "")[1:]
        assert JOINER not in token


@each_variant
def test_the_encoder_gives_the_ids_of_the_library(kind: str, pretokenize: str) -> None:
    draw = random.Random(0)
    texts = [*NASTY, *PLAIN, *TEXTS, *("".join(draw.choices(ALPHABET, k=draw.randrange(1, 30))) for _ in range(300))]
    texts += [f"a{char}b {char}a {char} b{char} .{char}. {char}" for char in ODD]
    made = tokenizer(kind, pretokenize)
    got = ids_by_the_encoder(made, texts)
    for text, ids, expected in zip(texts, got, ids_by_the_library(made, texts), strict=True):
        assert ids == expected, text


@each_variant
def test_the_encoder_comes_back_from_a_pickle_and_a_file(kind: str, pretokenize: str, tmp_path: Path) -> None:
    made = tokenizer(kind, pretokenize)
    file = tmp_path / "tokenizer.json"
    file.write_text(made.to_str(pretty=True), encoding="utf-8")
    assert Encoder.from_file(file) is Encoder.from_file(file)
    for encoder in (Encoder.from_file(file), pickle.loads(pickle.dumps(Encoder(made)))):
        assert [ids.tolist() for ids in encoder.encode(PLAIN)] == ids_by_the_library(made, PLAIN)


@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_offsets_point_at_the_characters_that_a_token_is_of(kind: str) -> None:
    made = tokenizer(kind)
    for text in ("친구와 학교에서, 책을  빌렸다.", "漢字와 café", "The library opens"):
        encoding = made.encode(text, add_special_tokens=False)
        for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
            plain = made.decode([made.token_to_id(token)]).removeprefix("##").strip()
            # A space put before the text has no place in it, and bytes of one character share its place.
            assert plain in (text[start:end].strip(), "") or "\ufffd" in plain
        covered = {place for start, end in encoding.offsets for place in range(start, end)}
        assert covered >= {place for place, char in enumerate(text) if not char.isspace()}


def test_bytes_know_and_restore_every_text() -> None:
    for cut in ["none", "mecab"] if find_spec("mecab") else ["none"]:
        made = tokenizer("byte_bpe", cut)
        texts = [text for text in NASTY if cut == "none" or JOINER not in text]
        for text, ids in zip(texts, ids_by_the_encoder(made, texts), strict=True):
            assert made.token_to_id("[UNK]") not in ids
            assert made.decode(ids) == text


@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_unknown_characters_are_unknown_and_nothing_else_is(kind: str) -> None:
    made = tokenizer(kind)
    unknown = made.token_to_id("[UNK]")
    ids = ids_by_the_encoder(made, ["친구 𓀀 학교"])[0]
    assert ids.count(unknown) == (0 if kind == "byte_bpe" else 1)
    assert made.decode([i for i in ids if i != unknown]).split()[0] == "친구"


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "byte_bpe"])
def test_decomposed_text_is_the_same_text(kind: str) -> None:
    decomposed = [unicodedata.normalize("NFD", text) for text in PLAIN]
    assert ids_by_the_encoder(tokenizer(kind), decomposed) == ids_by_the_encoder(tokenizer(kind), PLAIN)


@each_variant
def test_a_long_line_without_spaces_takes_time_in_proportion(kind: str, pretokenize: str) -> None:
    encoder = Encoder(tokenizer(kind, pretokenize))

    def seconds(num_chars: int) -> float:
        start = time.process_time()
        encoder.encode(["학교에서친구를만났다"[: num_chars % 10 or 10] * (num_chars // 10)])
        return time.process_time() - start

    seconds(1000)
    assert seconds(40_000) < 0.1 + 12 * seconds(10_000)


TRAIN = """
import json, sys
from reforge.tokenizers import TOKENIZERS
jobs, texts = json.load(sys.stdin)
for kind, options in jobs:
    print(TOKENIZERS[kind](**options).train(texts).to_str())
"""


@pytest.mark.slow  # starts processes
def test_the_same_texts_in_any_order_give_the_same_bytes_in_every_process() -> None:
    jobs = [(kind, {"vocab_size": 420}) for kind, part in TOKENIZERS.items() if part.is_trained]
    if find_spec("mecab"):
        jobs += [(kind, {"vocab_size": 420, "pretokenize": "mecab"}) for kind, _ in jobs if kind != "character"]
    outputs = []
    for threads, hash_seed, texts in (("1", "1", TEXTS), ("2", "2", TEXTS[::-1])):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TRAIN]
        done = subprocess.run(
            command, env=env, input=json.dumps([jobs, texts]), capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout.splitlines())
    for (kind, _), first, second in zip(jobs, *outputs, strict=True):
        assert first == second, kind


@each_trained
def test_a_sample_is_trained_on_as_it_is(kind: str) -> None:
    made = options(kind)
    sampled = sample(TEXTS, made.sample_bytes)
    assert made.train(sampled).to_str() == made.train(TEXTS).to_str()


@each_variant
def test_shrinking_is_training_at_the_smaller_size(kind: str, pretokenize: str) -> None:
    larger = options(kind, pretokenize)
    if not larger.shrinks:
        with pytest.raises(NotImplementedError):
            larger.shrink(tokenizer(kind, pretokenize), 300)
        return
    for size in (300, 420, 4000):
        expected = options(kind, pretokenize, size).train(TEXTS, (*SPECIAL_TOKENS, EOD))
        if size <= 420:
            assert larger.shrink(tokenizer(kind, pretokenize), size).to_str() == expected.to_str()


@each_variant
def test_a_loaded_tokenizer_says_itself_whether_it_wants_morphemes(kind: str, pretokenize: str) -> None:
    made = Tokenizer.from_str(tokenizer(kind, pretokenize).to_str())
    assert wants_morphemes(made) == (pretokenize == "mecab")
