"""Question answering from examples to scores: rows that hold their answers, the best span of all windows, the files."""

import json
import pickle
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from reforge.corpora.labelled import Answer, QuestionExample
from reforge.corpora.labelled.squad import Squad
from reforge.heads import HEADS
from reforge.models import BACKBONES, Frame
from reforge.spec import UserError
from reforge.tasks import Row, RowSet
from reforge.tasks.answer_spans import Answered, Spans, best_answer, best_pieces
from reforge.tasks.answer_windows import ANSWER, CHAR_ENDS, CHAR_STARTS, CONTEXT, DRAWN
from reforge.tasks.question_answering import (
    NO_ANSWER,
    QuestionAnswering,
    QuestionAnsweringOptions,
)
from reforge.tokenizers import TOKENIZERS, Unigram, WordPiece

KORQUAD = Path(__file__).parents[2] / ".." / "shared" / "data" / "korquad-v1" / "KorQuAD_v1.0_dev.json"
NAMES = [
    "강나루",
    "노을",
    "도담",
    "라온",
    "마루",
    "바다솔",
    "서리",
    "아람",
    "여울",
    "은가비",
    "자람",
    "찬솔",
    "초롱",
    "큰별",
    "푸름",
    "하랑",
]
PLACES = ["언덕", "섬", "숲속", "바닷가", "골짜기", "들판", "시장", "다리"]
FILLER = "아침에는 안개가 끼고 저녁에는 바람이 분다. 마을 사람들은 모여서 밥을 짓고 노래를 부른다. "


def example(number: int) -> QuestionExample:
    """Who planted a tree of which kind where; the answer, with a particle behind it, anywhere in a longer text."""
    name, place, year = NAMES[number % 16], PLACES[number % 8], 1900 + 7 * number
    context = f"{FILLER * (number % 4)}{name}은 {year}년에 {place}에서 나무를 심었다. {FILLER * (number % 2 + 1)}"
    question, answer = [(f"{year}년에 나무를 심은 사람은?", name), (f"{name}이 나무를 심은 곳은?", place)][
        number // 16 % 2
    ]
    return QuestionExample(f"q{number}", question, context, (Answer(answer, context.index(answer)),), f"글 {number}")


EXAMPLES = [example(number) for number in range(32)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [text for found in EXAMPLES for text in (found.context, found.question)]
    return WordPiece(vocab_size=260).train(texts)


def bound(
    tokenizer: Tokenizer, block_tokens: int = 48, labels: tuple[str, ...] = (), **options: object
) -> QuestionAnswering:
    defaults = {"max_question_tokens": 24, "max_answer_tokens": 12, "overlap_tokens": 12}
    task = QuestionAnsweringOptions(**{**defaults, **options}).bind(labels, tokenizer, block_tokens)
    assert isinstance(task, QuestionAnswering)
    return task


def by_example(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.example, []).append(row)
    return found


def held_text(row: Row, context: str) -> str:
    """The text of the tokens that a row's target names; "" where it is [CLS]."""
    first, last = row.extras[ANSWER]
    offset = row.extras[CONTEXT][0]
    if first == 0:
        assert last == 0
        return ""
    return context[row.extras[CHAR_STARTS][first - offset] : row.extras[CHAR_ENDS][last - offset]]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "byte_bpe", "character"])
def test_a_rows_target_is_the_fewest_tokens_that_hold_the_answer(kind: str) -> None:
    texts = [text for found in EXAMPLES for text in (found.context, found.question)]
    tokenizer = TOKENIZERS[kind](vocab_size=400).train(texts)
    rows = list(bound(tokenizer, 256, max_question_tokens=100, max_answer_tokens=30).rows(EXAMPLES))
    assert {row.example for row in rows} == set(range(len(EXAMPLES)))
    for number, own in by_example(rows).items():
        found = EXAMPLES[number]
        assert found.answers is not None
        texts_held = [text for row in own if (text := held_text(row, found.context))]
        assert texts_held
        for text in texts_held:
            assert found.answers[0].text in text
            assert len(text) < len(found.answers[0].text) + 8


def test_answers_that_begin_or_end_inside_a_token(tokenizer: Tokenizer) -> None:
    context = "마을 사람들은 모여서 밥을 짓고 노래를 부른다."
    whole = bound(tokenizer)
    for start, text in ((0, "마"), (4, "람들은 모"), (10, "서 밥"), (len(context) - 1, ".")):
        asked = QuestionExample("q", "누구?", context, (Answer(text, start),), "")
        [row] = whole.rows([asked])
        held = held_text(row, context)
        assert text in held
        first, last = row.extras[ANSWER] - row.extras[CONTEXT][0]
        assert row.extras[CHAR_STARTS][first] <= start < row.extras[CHAR_ENDS][first]
        assert row.extras[CHAR_STARTS][last] < start + len(text) <= row.extras[CHAR_ENDS][last]


def test_rows_are_question_and_window_with_segments(tokenizer: Tokenizer) -> None:
    task = bound(tokenizer)
    for row in task.rows(EXAMPLES):
        assert row.segments is not None
        start, stop = row.extras[CONTEXT]
        cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        assert len(row.ids) <= 48
        assert row.ids[0] == cls
        assert np.flatnonzero(row.ids == sep).tolist() == [start - 1, len(row.ids) - 1]
        assert stop == len(row.ids) - 1
        assert row.segments.tolist() == [0] * start + [1] * (len(row.ids) - start)
        question = tokenizer.encode(EXAMPLES[row.example].question, add_special_tokens=False).ids
        assert row.ids[1 : start - 1].tolist() == question
        assert len(row.extras[CHAR_STARTS]) == len(row.extras[CHAR_ENDS]) == stop - start
    assert task.notes()[0].endswith(" windows of the contexts of 32 questions")


def test_windows_hold_the_whole_context_and_overlap(tokenizer: Tokenizer) -> None:
    rows = by_example(list(bound(tokenizer, overlap_tokens=10).rows(EXAMPLES)))
    assert max(map(len, rows.values())) > 2
    for number, own in rows.items():
        pieces = tokenizer.encode(EXAMPLES[number].context, add_special_tokens=False)
        spans = list(
            zip(*(np.concatenate([row.extras[key] for row in own]) for key in (CHAR_STARTS, CHAR_ENDS)), strict=True)
        )
        assert set(spans) == set(pieces.offsets)
        for before, after in pairwise(own):
            common = set(before.extras[CHAR_STARTS]) & set(after.extras[CHAR_STARTS])
            assert len(common) >= 10
            assert len(common) == 10 or after is own[-1]


def test_overlap_is_at_most_half_a_window(tokenizer: Tokenizer) -> None:
    own = by_example(list(bound(tokenizer, overlap_tokens=128).rows(EXAMPLES)))[7]
    assert len(own) > 3
    rooms = {len(row.extras[CHAR_STARTS]) for row in own}
    assert len(rooms) == 1
    first, second = (set(row.extras[CHAR_STARTS]) for row in own[:2])
    assert len(first & second) == rooms.pop() // 2


def test_windows_without_the_answer_share_what_an_epoch_takes(tokenizer: Tokenizer) -> None:
    for negatives, expected in ((1.0, 1.0), (2, 2.0), (0.0, 0.0), ("all", np.inf)):
        task = bound(tokenizer, negatives_per_question=negatives)
        for own in by_example(list(task.rows(EXAMPLES))).values():
            drawn = [float(row.extras[DRAWN]) for row in own if not row.extras[ANSWER].any()]
            assert all(row.extras[DRAWN] == 1 for row in own if row.extras[ANSWER].any())
            assert sum(drawn) == pytest.approx(min(expected, len(drawn)))


def test_rows_to_be_predicted_know_no_answer(tokenizer: Tokenizer) -> None:
    unknown = [found._replace(answers=None) for found in EXAMPLES]
    rows = list(bound(tokenizer).rows(unknown, labelled=False))
    assert len(rows) == len(list(bound(tokenizer).rows(EXAMPLES)))
    assert all(set(row.extras) == {CONTEXT, CHAR_STARTS, CHAR_ENDS} for row in rows)
    with pytest.raises(UserError, match=r"^question q0: its answer must be known here$"):
        list(bound(tokenizer).rows(unknown))


def test_a_long_question_loses_its_end_and_is_counted(tokenizer: Tokenizer) -> None:
    asked = EXAMPLES[0]._replace(question="나무를 심은 사람은 " * 30)
    task = bound(tokenizer)
    assert all(row.extras[CONTEXT][0] == 2 + 24 for row in task.rows([asked, EXAMPLES[0]]) if row.example == 0)
    assert task.notes()[1] == "1 questions were longer than 24 tokens (task.max_question_tokens) and lost their end"


def test_an_answer_in_no_window_is_counted(tokenizer: Tokenizer) -> None:
    context = FILLER * 6
    asked = QuestionExample("q", "무엇?", context, (Answer(context.strip(), 0),), "")
    task = bound(tokenizer)
    assert not any(row.extras[ANSWER].any() for row in task.rows([asked]))
    assert task.notes()[1].startswith("1 of 1 answers lie in no window as a whole: task.overlap_tokens or ")


def test_answers_that_no_tokens_match_are_counted(tokenizer: Tokenizer) -> None:
    asked = [
        QuestionExample("q", "누가 모이나?", FILLER, (Answer(text, FILLER.index(text)),), "")
        for text in ("마을 사람", "마을 사람들은", "밥을 짓고", "모여서 밥")
    ]
    task = bound(tokenizer)
    differ = sum(
        held_text(row, FILLER) not in ("", found.answers[0].text)
        for found in asked
        for row in task.rows([found])
        if found.answers
    )
    assert 0 < differ < 4
    assert task.notes()[1] == (
        f"{differ} of 4 answers begin or end inside a token, which exact match does not forgive; "
        "tokenizer.pretokenize: mecab parts Korean words from their particles"
    )


def test_a_block_too_small_is_said_with_the_numbers(tokenizer: Tokenizer) -> None:
    options = QuestionAnsweringOptions()
    assert isinstance(options.bind((), tokenizer, 97), QuestionAnswering)
    with pytest.raises(UserError) as error:
        options.bind((), tokenizer, 96)
    assert str(error.value) == (
        "data.block_tokens must be at least 97, for 3 special tokens, task.max_question_tokens (64) and "
        "task.max_answer_tokens (30); got 96"
    )


def test_what_can_be_learnt() -> None:
    options = QuestionAnsweringOptions()
    nothing = [found._replace(answers=()) for found in EXAMPLES]
    assert options.labels(EXAMPLES) == ()
    assert options.labels([*EXAMPLES, *nothing]) == (NO_ANSWER,)
    with pytest.raises(UserError, match="no question of the training set has an answer"):
        options.labels(nothing)
    assert options.goal == ("f1", "max")
    assert [str(problem) for problem in QuestionAnsweringOptions(metric="accuracy").problems()] == [
        "metric: must be one of f1, exact_match, loss; got 'accuracy'"
    ]


def brute_force(starts: np.ndarray, ends: np.ndarray, max_pieces: int) -> list[tuple[float, int, int]]:
    spans = [
        (float(starts[first] + ends[last]), first, last)
        for first in range(len(starts))
        for last in range(first, min(len(starts), first + max_pieces))
    ]
    return sorted(spans, key=lambda span: (-span[0], span[1], span[2]))


@pytest.mark.parametrize(
    ("num", "max_pieces", "num_best"), [(40, 7, 20), (3, 30, 20), (1, 1, 1), (0, 30, 20), (25, 1, 30)]
)
def test_the_best_spans_are_those_of_all_spans(num: int, max_pieces: int, num_best: int) -> None:
    for seed in range(5):
        starts, ends = np.random.default_rng(seed).normal(size=(2, num)).astype(np.float32)
        found = list(zip(*(array.tolist() for array in best_pieces(starts, ends, max_pieces, num_best)), strict=True))
        expected = brute_force(starts, ends, max_pieces)[:num_best]
        assert found == [(first, last, pytest.approx(score)) for score, first, last in expected]


def spans(*found: tuple[int, int, float], null: float = 0.0) -> Spans:
    starts, ends, scores = (np.array(column) for column in zip(*found, strict=True))
    return Spans(starts, ends, scores, null)


def test_windows_are_compared_by_how_far_they_are_above_cls() -> None:
    windows = [spans((0, 2, 9.0), (3, 4, 1.0), null=8.0), spans((5, 7, 3.0), null=-2.0)]
    found = best_answer("가나 다 라마바", windows, None)
    assert found[:2] == ("라마", 5)
    assert found.score == pytest.approx(np.exp(5) / np.exp([1, -7, 5]).sum())
    assert best_answer("가나 다 라마바", windows, 4.9).text == "라마"
    assert best_answer("가나 다 라마바", windows, 5.0)[:2] == ("", None)


def test_white_space_around_an_answer_goes() -> None:
    assert best_answer("가  나다 라", [spans((1, 6, 1.0))], None) == Answered("나다", 3, 1.0)


def test_a_digest_is_small_and_has_only_spans_with_text(tokenizer: Tokenizer) -> None:
    task = bound(tokenizer)
    [row, *_] = task.rows(EXAMPLES)
    scores = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)  # padded, as in a batch
    digest = task.digest(row, {"scores_BT2": scores})
    assert len(digest.starts) == len(digest.ends) == len(digest.scores) == 20
    assert (digest.starts < digest.ends).all()
    assert digest.null == pytest.approx(scores[0].sum())
    assert len(pickle.dumps(digest)) < 1500
    assert EXAMPLES[0].context[digest.starts[0] : digest.ends[0]].strip()


def test_an_empty_context_is_answered_with_nothing(tokenizer: Tokenizer) -> None:
    asked = QuestionExample("q", "누구?", "", (), "")
    task = bound(tokenizer)
    [row] = task.rows([asked])
    assert not row.extras[ANSWER].any()
    digest = task.digest(row, {"scores_BT2": np.zeros((len(row.ids), 2), np.float32)})
    [found] = task.predict([asked], [[digest]])
    assert found[:2] == ("", None)
    assert len(RowSet([row])) == 1


def test_a_context_of_100_000_characters(tokenizer: Tokenizer) -> None:
    context = FILLER * (100_000 // len(FILLER)) + "강나루가 왔다."
    asked = QuestionExample("q", "누가 왔나?", context, (Answer("강나루", context.index("강나루")),), "")
    task = bound(tokenizer, block_tokens=512, overlap_tokens=128)
    rows = list(task.rows([asked]))
    assert len(rows) > 50
    assert [bool(held_text(row, context)) for row in rows] == [False] * (len(rows) - 1) + [True]
    digests = []
    for row in rows:
        scores = np.zeros((len(row.ids), 2), np.float32)
        scores[row.extras[ANSWER], [0, 1]] = 5.0
        digests.append(task.digest(row, {"scores_BT2": scores}))
    [found] = task.predict([asked], [digests])
    assert "강나루" in found.text
    assert found.start == asked.answers[0].start  # type: ignore[index]


def test_scores_and_what_is_written_of_them(tokenizer: Tokenizer) -> None:
    task = bound(tokenizer, labels=(NO_ANSWER,))
    nothing = EXAMPLES[2]._replace(answers=())
    examples = [EXAMPLES[0], EXAMPLES[1], nothing, EXAMPLES[3]._replace(answers=())]
    predictions = [
        Answered("강나루", 0, 0.9),
        Answered("노을은", 5, 0.8),
        Answered("", None, 0.7),
        Answered("라온", 0, 0.6),
    ]
    card = task.score(examples, predictions)
    assert list(card.metrics) == list(task.metric_names)
    assert card.metrics["exact_match"] == 0.5
    assert card.metrics["f1"] == pytest.approx((1 + 2 * 2 / 5 + 1 + 0) / 4)
    assert card.per_class[NO_ANSWER] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2.0}
    assert task.score(examples[:2], predictions[:2]).per_class == {}
    assert json.loads(json.dumps(task.as_json(examples[0], predictions[0]), ensure_ascii=False)) == {
        "key": "q0",
        "question": "1900년에 나무를 심은 사람은?",
        "answer": "강나루",
        "start": 0,
        "score": 0.9,
        "gold": ["강나루"],
    }
    assert "gold" not in task.as_json(examples[0]._replace(answers=None), predictions[0])
    assert [one.text for one in predictions] == ["강나루", "노을은", "", "라온"]
    verdicts = [task.verdict(*pair) for pair in zip(examples, predictions, strict=True)]
    assert [round(verdict.badness, 3) for verdict in verdicts] == [0, 0.2, 0, 1]
    assert (verdicts[3].gold, verdicts[3].guess) == (NO_ANSWER, "라온")
    assert "강나루은 1900년에" in verdicts[0].text
    surer = task.verdict(examples[3], predictions[3]._replace(score=0.99))
    assert surer.badness > verdicts[3].badness


def answers_of(task: QuestionAnswering, net: torch.nn.Module, examples: Sequence[QuestionExample]) -> list[Answered]:
    """Predictions as a job makes them, a batch of windows at a time."""
    rows = RowSet(task.rows(examples))
    digests: list[list[tuple[int, Spans]]] = [[] for _ in examples]
    for _, part in rows.parts(rows.all_indices, -1, 2048):
        _, outputs = net.assess(**net.collate(rows.read(part, 1), 1).tensors)  # type: ignore[operator]
        for place, index in enumerate(part.samples.tolist()):
            own = {name: output[place].numpy() for name, output in outputs.items()}
            row = rows.row(index)
            digests[row.example].append((int(rows.order[index]), task.digest(row, own)))
    return task.predict(
        examples, [[digest for _, digest in sorted(found, key=lambda pair: pair[0])] for found in digests]
    )


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize("kind", BACKBONES)
def test_a_model_learns_sixteen_questions_by_heart(kind: str, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    examples = EXAMPLES[8:24]
    exact = Unigram(vocab_size=300).train([text for found in EXAMPLES for text in (found.context, found.question)])
    task = bound(exact, labels=(), negatives_per_question=2.0)
    rows = RowSet(task.rows(examples))
    backbone = BACKBONES[kind](d_model=64, depth=2, num_heads=4).build(
        Frame(exact.get_vocab_size(), 64, num_segments=2)
    )
    net = task.build(backbone, HEADS["span"](dropout=0.0).build(64, task.outputs))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for step in range(120):
        inputs = net.collate(rows.read(rows.rows_at(1, step, 24), 1), 1)
        loss = net(**inputs.tensors).losses["loss"] / max(1, inputs.num_targets["loss"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        predictions = answers_of(task, net.eval(), examples)
    assert len(predictions) == 16
    print(kind, loss.item(), task.score(examples, predictions).metrics)
    assert task.score(examples, predictions).metrics["exact_match"] == 1.0


@pytest.mark.slow  # cuts hundreds of contexts
def test_every_answer_of_korquad_is_in_a_window_and_every_question_gets_one_prediction() -> None:
    if not KORQUAD.exists():
        pytest.skip(f"no real data at {KORQUAD}")
    examples = [found for found in Squad(path=KORQUAD).read() if isinstance(found, QuestionExample)][::6]
    tokenizer = WordPiece(vocab_size=4000).train([found.context for found in examples])
    task = QuestionAnsweringOptions(max_answer_tokens=60).bind((), tokenizer, 256)
    assert isinstance(task, QuestionAnswering)
    rows = by_example(list(task.rows(examples)))
    assert list(rows) == list(range(963))
    digests, same = [], 0
    for number, own in rows.items():
        digests.append([task.digest(row, {"scores_BT2": pointing(row)}) for row in own])
        assert any(held_text(row, examples[number].context) for row in own)
    predictions = task.predict(examples, digests)
    for found, answered in zip(examples, predictions, strict=True):
        assert found.answers is not None
        assert found.answers[0].text.strip() in answered.text
        same += found.answers[0].text.strip() == answered.text
    metrics = task.score(examples, predictions).metrics
    print(task.notes(), same / len(examples), metrics)
    assert metrics["exact_match"] > 0.6
    assert metrics["f1"] > 0.95


def pointing(row: Row) -> np.ndarray:
    """Scores of a model that knows."""
    scores = np.zeros((len(row.ids), 2), np.float32)
    scores[row.extras[ANSWER], [0, 1]] = 5.0
    return scores
