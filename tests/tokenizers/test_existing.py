"""Tokenizers that are there already: new ids, the same pieces, and a clear word about files that are none."""

import io
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from reforge.spec import UserError
from reforge.tokenizers import EOD, SPECIAL_TOKENS, TOKENIZERS, Vocabulary
from reforge.tokenizers.existing import Existing
from reforge.tokenizers.wordpiece import WordPiece

TEXTS = [
    "학교에서 친구를 만났다. 친구와 함께 도서관에 갔고, 책을 두 권 빌렸다! 저녁에는 집에서 밥을 먹었다.",
    "나는 학교에 가는 친구를 좋아한다. 漢字와 English words, café, 123도 (가끔) 있다? 도서관의 책은 두껍다.",
    "The library opens at nine. The books of the library are old, and the readers of the books are young.",
] * 10
UNSEEN = [
    "  친구의 책이  도서관에 있다. ",
    "Reading books, café 456",
    "ﬁ ① ½ 한글\t漢文",
    "새 책",
    "\n도서관\n",
    "a" * 300,
]


def file_of(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def by_unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def by_bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "[MASK]"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens(["도서관"])
    tokenizer.post_processor = processors.TemplateProcessing("<|endoftext|> $A", None, [("<|endoftext|>", 0)])
    tokenizer.enable_truncation(5)
    return tokenizer


def by_words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return tokenizer


@pytest.mark.parametrize("made", [by_unigram, by_bytes, by_words, lambda: WordPiece(vocab_size=300).train(TEXTS)])
def test_text_is_cut_as_before_and_special_tokens_come_first(made: object, tmp_path: Path) -> None:
    assert callable(made)
    before = made()
    special = (*SPECIAL_TOKENS, EOD)
    after = Existing(path=file_of(before, tmp_path)).train([], special)
    assert [after.token_to_id(token) for token in special] == list(range(6))
    assert Vocabulary.of(after).num_special == 6
    assert {token.content for token in after.get_added_tokens_decoder().values() if token.special} == set(special)
    before.no_truncation()
    for text in [*TEXTS[:3], *UNSEEN]:
        expected = before.encode(text, add_special_tokens=False)
        got = after.encode(text)
        assert got.offsets == expected.offsets
        names = [before.id_to_token(i) for i in expected.ids]
        assert [after.id_to_token(i) for i in got.ids] == ["[UNK]" if name == "<unk>" else name for name in names]


def sentencepiece_model(folder: Path, **options: object) -> Path:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    path = folder / "spm.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram"},
        {"model_type": "unigram", "normalization_rule_name": "identity", "add_dummy_prefix": False},
        {"model_type": "unigram", "byte_fallback": True, "vocab_size": 400, "remove_extra_whitespaces": False},
        {"model_type": "unigram", "user_defined_symbols": ["도서관", "서관(", "<x>"]},
        {"model_type": "bpe"},
        {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400, "split_by_whitespace": False},
    ],
    ids=["unigram", "identity", "bytes", "symbols", "bpe", "bpe bytes"],
)
def test_a_sentencepiece_model_cuts_text_as_sentencepiece_does(options: dict[str, object], tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = sentencepiece_model(tmp_path, **{"vocab_size": 170, **options})
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    made = Existing(path=path).train([])
    assert [made.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(5))
    for text in [*TEXTS[:3], *UNSEEN]:
        expected = ["[UNK]" if reference.is_unknown(i) else reference.id_to_piece(i) for i in reference.encode(text)]
        ids = made.encode(text).ids
        assert [made.id_to_token(i) for i in ids] == expected
        if "[UNK]" not in expected:
            assert made.decode(ids) == reference.decode(reference.encode(text))


def test_symbols_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    path = sentencepiece_model(tmp_path, model_type="bpe", vocab_size=170, user_defined_symbols=["<x>"])
    with pytest.raises(UserError, match="has symbols of its own"):
        Existing(path=path).train([])


def test_a_vocab_txt_is_berts_wordpiece(tmp_path: Path) -> None:
    trained = WordPiece(vocab_size=300).train(TEXTS)
    path = tmp_path / "vocab.txt"
    tokens = sorted(trained.get_vocab(), key=lambda token: (token in SPECIAL_TOKENS, token))
    path.write_text("\n".join(token for token in tokens if token != "[MASK]"), encoding="utf-8")
    made = Existing(path=path).train([])
    assert [made.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(5))
    assert made.get_vocab_size() == trained.get_vocab_size()
    assert [made.encode(text).tokens for text in UNSEEN] == [trained.encode(text).tokens for text in UNSEEN]
    assert Existing(path=path, lowercase=True).train([]).encode("BOOKS").tokens == trained.encode("books").tokens


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", b'{"version": 3}', "is no tokenizer.json"),
        ("tokenizer.json", b"\xff\xfe", "is no tokenizer.json"),
        ("vocab.txt", b"a\nb c\n", "vocab.txt:2 is no token"),
        ("vocab.txt", b"a\nb\na\n", "vocab.txt:3 repeats the token 'a' of line 1"),
        ("vocab.txt", b"a\n\xff\n", "is not UTF-8: byte 0xff at offset 2"),
        ("spm.model", b"not a model", "is no .model file of SentencePiece"),
        ("spm.model", b"", "is no .model file of SentencePiece"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        Existing(path=tmp_path / name).train([])
    assert says in str(error.value)


def test_a_tokenizer_that_drops_what_it_does_not_know_is_refused(tmp_path: Path) -> None:
    path = file_of(Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])), tmp_path)
    with pytest.raises(UserError, match="has no unknown token"):
        Existing(path=path).train([])


def test_what_the_options_of_a_file_can_say(tmp_path: Path) -> None:
    path = file_of(WordPiece(vocab_size=300).train(TEXTS), tmp_path)
    size = Existing(path=path).train([]).get_vocab_size()
    assert Existing(path=path, vocab_size=size).train([]).get_vocab_size() == size
    with pytest.raises(UserError, match="leave tokenizer"):
        Existing(path=path, vocab_size=size - 1).train([])
    wrong = Existing(path=tmp_path / "none.bin", lowercase=True)
    assert [problem.path for problem in wrong.problems()] == [("path",), ("path",), ("lowercase",)]
    assert [p.path for p in Existing(path=path, pretokenize="mecab").problems()] == [("pretokenize",)]


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = file_of(by_words(), tmp_path)
    moved = tmp_path / "moved.json"
    moved.write_bytes(path.read_bytes())
    assert Existing(path=path).identity() == Existing(path=moved).identity()
    parts = json.loads(path.read_text(encoding="utf-8"))
    moved.write_text(json.dumps(parts, indent=1), encoding="utf-8")
    assert Existing(path=path).identity() != Existing(path=moved).identity()
    assert TOKENIZERS["existing"] is Existing
