"""Named entities: every unit of every text is tagged and scored, whatever its length; what cannot be is said."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from reforge.corpora.labelled import TaggedExample
from reforge.heads import HEADS
from reforge.models import BACKBONES, Frame
from reforge.spec import UserError
from reforge.tasks import RowSet
from reforge.tasks.ner import Ner, NerOptions
from reforge.tasks.token_model import TokenModel
from reforge.tokenizers import TOKENIZERS

TEXT = "민수는 부산에서 지은을 만나 학교에 갔다"
TAGS = ("B-PS", "B-LC", "B-PS", "O", "O", "O")
BLOCK = 16


def words(text: str, tags: Sequence[str] | None = None, key: str = "a.txt:1") -> TaggedExample:
    units, start = list[tuple[int, int]](), 0
    for word in text.split(" "):
        units.append((start, start + len(word)))
        start += len(word) + 1
    return TaggedExample(key, text, tuple(units) if text else (), None if tags is None else tuple(tags))


EXAMPLES = [words(TEXT, TAGS), words("지은은 책을 읽었다", ("B-PS", "O", "O")), words("", ())]
LONG = words(" ".join([TEXT] * 8), TAGS * 8)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return TOKENIZERS["wordpiece"](vocab_size=120).train([TEXT, "지은은 책을 읽었다"] * 3)


def built(tokenizer: Tokenizer, head: str = "crf", **options: object) -> tuple[Ner, TokenModel]:
    chosen = NerOptions(**options).settle(EXAMPLES)  # type: ignore[arg-type]
    task = chosen.bind(chosen.labels(EXAMPLES), tokenizer, BLOCK)
    torch.manual_seed(0)
    backbone = BACKBONES["reformer"](d_model=16, depth=2, num_heads=2, attention="exact")
    model = task.build(
        backbone.build(Frame(tokenizer.get_vocab_size(), BLOCK)), HEADS[head]().build(16, task.outputs)
    ).eval()
    assert isinstance(model, TokenModel)
    return task, model


def predict(
    task: Ner, model: TokenModel, examples: Sequence[TaggedExample], labelled: bool = True
) -> list[tuple[str, ...]]:
    rows = RowSet(task.rows(examples, labelled))
    digests: list[list[object]] = [[] for _ in examples]
    order = rows.order.argsort()
    with torch.no_grad():
        for index in order.tolist():
            [(_, part)] = rows.parts(np.array([index]), -1, 1)
            _, outputs = model.assess(**model.collate(rows.read(part, 0), 0).tensors)
            one = {name: value[0].numpy() for name, value in outputs.items()}
            digests[rows.examples[index]].append(task.digest(rows.row(index), one))
    return task.predict(examples, digests)  # type: ignore[arg-type]


def test_labels_are_whole_iob2() -> None:
    assert NerOptions().labels(EXAMPLES) == ("O", "B-LC", "I-LC", "B-PS", "I-PS")


@pytest.mark.parametrize("head", ["crf", "linear"])
def test_every_unit_is_tagged_however_long_the_text(tokenizer: Tokenizer, head: str) -> None:
    task, model = built(tokenizer, head, overlap_tokens=4)
    found = predict(task, model, [*EXAMPLES, LONG])
    assert [len(tags) for tags in found] == [6, 3, 0, 48]
    assert found == predict(task, model, [words(e.text) for e in [*EXAMPLES, LONG]], labelled=False)
    assert "2 of 8 texts did not fit in 16 tokens" in task.notes()[0]  # each set was made into rows twice


def test_each_unit_is_a_target_once(tokenizer: Tokenizer) -> None:
    task, model = built(tokenizer, overlap_tokens=4)
    rows = list(task.rows([LONG]))
    assert len(rows) > 3
    assert all(len(row.ids) <= BLOCK for row in rows)
    assert sum(len(row.extras["tags"]) for row in rows) == len(LONG.units)
    tags = [task.names[tag] for row in rows for tag in row.extras["tags"]]
    assert tuple(tags) == LONG.tags
    batch = RowSet(rows).read(next(iter(RowSet(rows).parts(np.arange(len(rows)), 0, 10**6)))[1], 0)
    assert model.collate(batch, 0).num_targets == {"loss": len(LONG.units)}


def test_a_whole_text_is_decoded_at_once(tokenizer: Tokenizer) -> None:
    """Emissions that want I-PS right behind a seam after B-LC get what IOB2 allows."""
    task, _ = built(tokenizer, overlap_tokens=0)
    rows = list(task.rows([LONG]))
    wanted = [1, *[4] * (len(LONG.units) - 1)]  # B-LC, I-PS, I-PS, ...
    digests, done = [], 0
    for row in rows:
        own = wanted[done : done + len(row.extras["places"])]
        done += len(own)
        digests.append(task.digest(row, {"scores_BWK": 9.0 * np.eye(5)[own].reshape(-1, 5)}))
    [tags] = task.predict([LONG], [digests])
    before = ("O", *tags)
    assert all(not tag.startswith("I-") or last[2:] == tag[2:] for last, tag in zip(before, tags, strict=False))


def test_blank_rows_have_no_target_and_spoil_nothing(tokenizer: Tokenizer) -> None:
    task, model = built(tokenizer)
    rows = RowSet(task.rows(EXAMPLES))
    batch = rows.read(next(iter(rows.parts(rows.all_indices, 0, 10**6)))[1], 0)
    blank = batch._replace(
        ids=np.concatenate([batch.ids, np.zeros_like(batch.ids)]),
        extras={name: np.concatenate([value, np.zeros_like(value)]) for name, value in batch.extras.items()},
    )
    inputs, with_blank = model.collate(batch, 0), model.collate(blank, 0)
    assert inputs.num_targets == with_blank.num_targets == {"loss": 9.0}
    loss = model(**with_blank.tensors).losses["loss"]
    torch.testing.assert_close(loss, model(**inputs.tensors).losses["loss"])
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_loss_is_the_heads_over_the_states_of_first_pieces(tokenizer: Tokenizer) -> None:
    task, model = built(tokenizer, "linear", class_weights="balanced", label_smoothing=0.1)
    rows = RowSet(task.rows(EXAMPLES[:1]))
    inputs = model.collate(rows.read(next(iter(rows.parts(rows.all_indices, 0, 10**6)))[1], 0), 0)
    places, tags = inputs.tensors["places_BW"][0], inputs.tensors["tags_BW"][0]
    states = model.backbone(inputs.tensors["ids_BT"])[:, places]
    scores = model.head(states, torch.ones(1, 6, dtype=torch.bool))[0]
    expected = torch.nn.functional.cross_entropy(scores, tags, model.weights_K, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(model(**inputs.tensors).losses["loss"], expected, rtol=1e-4, atol=1e-5)
    assert model.weights_K is not None
    assert inputs.num_targets["loss"] == pytest.approx(float(model.weights_K[tags].sum()), rel=1e-5)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    tags = [tag for example in EXAMPLES for tag in example.tags or ()]
    names = sorted(set(tags))
    expected = dict(zip(names, compute_class_weight("balanced", classes=np.array(names), y=tags), strict=True))
    assert NerOptions(class_weights="balanced").settle(EXAMPLES).class_weights == pytest.approx(expected)


def test_sets_of_characters_are_cut_by_character() -> None:
    single = [TaggedExample("b:1", "박씨", ((0, 1), (1, 2)), ("B-PS", "O"))]
    assert NerOptions().settle(single).split == "units"
    assert NerOptions().settle(EXAMPLES).split == "words"
    assert NerOptions(split="words").settle(single).split == "words"
    with pytest.raises(UserError, match="klue_f1 is of sets that are tagged character by character"):
        NerOptions(metric="klue_f1").settle(EXAMPLES)


def test_what_cannot_be_learnt_or_scored_is_said(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"none of the 1 training examples .* has an entity"):
        NerOptions().labels([words("책을 읽었다", ("O", "O"))])
    with pytest.raises(UserError, match=r"task\.class_weights: training has no tag B-PX"):
        NerOptions(class_weights={"B-PX": 2.0}).labels(EXAMPLES)
    task, _ = built(tokenizer)
    with pytest.raises(UserError, match=r'a\.txt:9: the type "OG" is none that training saw: LC, PS'):
        list(task.rows([words("삼성이", ("B-OG",), key="a.txt:9")]))
    with pytest.raises(UserError, match=r"a\.txt:1: has no tags"):
        list(task.rows([words("삼성이")]))
    [problem] = NerOptions(augment={"swap_prob": 0.1}).problems()  # type: ignore[arg-type]
    assert problem.path == ("augment", "swap_prob")


def test_predictions_for_files_and_for_people(tokenizer: Tokenizer) -> None:
    task, _ = built(tokenizer)
    guess = ("B-PS", "O", "B-PS", "I-PS", "O", "O")
    line = task.as_json(EXAMPLES[0], guess)
    assert line["entities"][1] == {"type": "PS", "start": 9, "end": 15, "text": "지은을 만나"}
    assert line["gold"]["tags"] == list(TAGS)
    verdict = task.verdict(EXAMPLES[0], guess)
    assert verdict.badness == 3
    assert verdict.guess == "[PS 민수는] 부산에서 [PS 지은을 만나] 학교에 갔다"
    assert task.verdict(EXAMPLES[0], TAGS).badness == 0
    assert "gold" not in task.as_json(words(TEXT), guess)
