"""A finished run asked: by texts, files, a pipe and a prompt, with the same answers; and what cannot be."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

import reforge
from reforge.corpora.labelled import TextExample
from reforge.runs.answers import readable
from reforge.runs.conversation import converse
from reforge.runs.predict_command import predict_command
from reforge.runs.predictor import load_predictor
from reforge.runs.raw_examples import RawForm
from reforge.spec import UserError

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def predict(*words: object) -> int:
    return predict_command(lambda run, host, port: print("serve", host, port), [str(word) for word in words])


def answers(capsys: Capture, *words: object) -> list[dict[str, Any]]:
    assert predict(*words, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def without_keys(lines: list[dict[str, Any]]) -> list[Any]:
    """What was answered; probabilities to the rounding that a batch's padding changes."""
    return [(line["text"], line["label"], pytest.approx(line["probabilities"], abs=1e-6)) for line in lines]


def test_texts_a_file_a_pipe_and_the_runs_own_form_are_answered_alike(
    classes_run: Path, reviews_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [line.split("\t")[0] for line in reviews_file.read_text("utf-8").splitlines()[1:]]
    typed = answers(capsys, classes_run, *texts)
    assert [line["text"] for line in typed] == texts
    assert typed[0].keys() == {"key", "text", "label", "probabilities"}
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(texts) + "\n", encoding="utf-8")
    from_file = answers(capsys, classes_run, "--file", lines)
    assert from_file[2]["key"] == "lines.txt:3"
    unlabelled = tmp_path / "unlabelled.tsv"
    unlabelled.write_text("\n".join(["said", *texts]), encoding="utf-8")
    own_form = answers(capsys, classes_run, "--file", unlabelled, "--kind", "tsv", "text=said")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.read_bytes())))
    piped = answers(capsys, classes_run)
    wanted = [tuple(row) for row in without_keys(typed)]
    for lines_found in (from_file, own_form, piped):
        assert [(line["text"], line["label"], line["probabilities"]) for line in lines_found] == wanted


def test_a_file_longer_than_a_chunk_keeps_its_order(classes_run: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "many.txt"
    file.write_text("".join(f"the tea {number}\n" for number in range(1005)), encoding="utf-8")
    found = answers(capsys, classes_run, "--file", file)
    assert [line["text"] for line in found] == [f"the tea {number}" for number in range(1005)]


def test_a_file_may_be_a_url(classes_run: Path, capsys: Capture) -> None:
    UPath("memory://asked/lines.txt").write_text("the tea was lovely\n")
    [line] = answers(capsys, classes_run, "--file", "memory://asked/lines.txt")
    assert line["text"] == "the tea was lovely"


def test_people_read_probabilities_and_answers(classes_run: Path, reader_run: Path, capsys: Capture) -> None:
    assert predict(classes_run, "the soup was lovely") == 0
    out = capsys.readouterr().out
    assert "good" in out
    assert "bad" in out
    assert "the soup was lovely" not in out
    assert predict(reader_run, "--context", "the soup is on the table", "where is the soup") == 0
    assert capsys.readouterr().out.rstrip().endswith("%)")
    assert readable({"score": 2.5}, colour=False) == "2.500"
    assert readable({"answer": "", "score": 0.5}, colour=False) == "(no answer)  (50%)"


def test_entities_are_shown_in_their_text(entities_run: Path, capsys: Capture) -> None:
    text = "Kim  sings, in Rome."
    [answer] = answers(capsys, entities_run, text)
    assert answer["words"] == ["Kim", "sings", ",", "in", "Rome", "."]
    assert len(answer["tags"]) == 6
    assert [text[found["start"] : found["end"]] for found in answer["entities"]] == [
        found["text"] for found in answer["entities"]
    ]
    assert predict(entities_run, text) == 0
    plain = capsys.readouterr().out
    for found in answer["entities"]:
        assert f"[{found['text']} {found['type']}]" in plain
    shown = {"text": text, "entities": [{"type": "PER", "start": 0, "end": 3}]}
    assert readable(shown, colour=False) == "[Kim PER]  sings, in Rome."
    assert "\x1b[" in readable(shown, colour=True)


def test_a_context_may_be_a_file_and_a_text_of_any_length(reader_run: Path, tmp_path: Path, capsys: Capture) -> None:
    context = "the soup is on the table " * 400
    file = tmp_path / "context.txt"
    file.write_text(context, encoding="utf-8")
    [named] = answers(capsys, reader_run, "--context", file, "where is the soup")
    [typed] = answers(capsys, reader_run, "--context", context, "where is the soup")
    assert named == typed
    assert typed["answer"] == context[typed["start"] : typed["start"] + len(typed["answer"])]


def test_a_text_of_100_000_characters_is_answered(classes_run: Path, capsys: Capture) -> None:
    [line] = answers(capsys, classes_run, "the tea was lovely " * 5_300)
    assert line["label"] in ("good", "bad")


def talk(run: Path, *typed: str) -> list[Any]:
    """The examples that a conversation makes of typed lines."""
    lines: Iterator[str] = iter(typed)
    found: list[Any] = []

    def ask(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    converse(RawForm.of(load_predictor(run)), None, found.append, ask)
    return found


def test_a_prompt_asks_until_an_empty_line_or_the_end(classes_run: Path, reader_run: Path, capsys: Capture) -> None:
    assert [example.text for example in talk(classes_run, "a", "b", "", "c")] == ["a", "b"]
    assert [example.text for example in talk(classes_run, "a", "bad \udce9", "b")] == ["a", "b"]
    assert "2: the text is not UTF-8 from character 5 on" in capsys.readouterr().err
    found = talk(reader_run, "first line", "second line", "", "who", "where")
    assert [(example.question, example.context) for example in found] == [
        ("who", "first line\nsecond line"),
        ("where", "first line\nsecond line"),
    ]
    assert talk(reader_run) == []


def test_serving_is_handed_on(classes_run: Path, capsys: Capture) -> None:
    assert predict(classes_run, "--serve", "--port", "9000") == 0
    assert capsys.readouterr().out == "serve 127.0.0.1 9000\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "1: the text is empty"),
        (["a", "\udce9"], "2: the text is not UTF-8 from character 1 on"),
        (["--context", "a", "b"], "--context: the run's task, classification, takes text alone"),
        (["--file", "none.txt"], "--file: none.txt does not exist"),
        (["--file", str(ROOT / "tests" / "tiny.yml")], "tiny.yml does not exist; did you mean"),
        (["--file", str(ROOT)], "is no file"),
        (["--file", "LINES"], "lines.txt:2: the text is empty"),
        (["--file", "LINES", "a"], "--file and TEXT do not go together"),
        (["--kind", "tsv"], "--kind has no effect without --file"),
        (["--file", "LINES", "--kind", "tsv"], "there is no column 'text'"),
        (["--file", "LINES", "--kind", "conll"], "takes texts; conll is a set of tags"),
        (["--serve", "a"], "--serve takes its texts over HTTP: leave out TEXT"),
        (["--host", "0.0.0.0", "a"], "--host has no effect without --serve"),
        (["--serve", "--port", "0"], "argument --port: must be a number from 1 to 65535, got '0'"),
    ],
)
def test_what_the_command_refuses(
    words: list[str], message: str, classes_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("a\n\nb\n", encoding="utf-8")
    assert predict(classes_run, *(lines if word == "LINES" else word for word in words)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_question_needs_a_context(reader_run: Path, capsys: Capture) -> None:
    assert predict(reader_run, "where") == 2
    assert "--context TEXT or FILE must say what the questions are about" in capsys.readouterr().err


@pytest.mark.slow  # starts a process
def test_the_script_reads_a_pipe(classes_run: Path) -> None:
    command = [sys.executable, "jobs/predict.py", str(classes_run), "--json"]
    piped = {"input": "the tea was lovely\n\n", "capture_output": True, "text": True, "encoding": "utf-8"}
    done = subprocess.run(command, cwd=ROOT, timeout=300, check=False, **piped)
    assert done.returncode == 2
    assert done.stderr == "standard input:2: the text is empty\n"


def test_a_run_answers_from_python_too(classes_run: Path) -> None:
    predictor = reforge.load_predictor(classes_run)
    [one, again] = predictor.predict([TextExample("1", "a good one", None, None)] * 2)
    assert one == again
    assert sum(one.probabilities) == pytest.approx(1)
    with pytest.raises(UserError, match=r"was fine-tuned: reforge\.load_predictor"):
        reforge.load(classes_run)
