"""The command line of prediction: what a finished run answers to a text, a file, a pipe, a prompt, or over HTTP.

TEXT ...  --file FILE  a pipe  a prompt  --> examples --> answers --> lines for people, or JSON
--serve   requests over HTTP             --> the same
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from reforge.corpora.labelled import Example
from reforge.corpora.place import as_place, nearest_existing
from reforge.corpora.reader import Reader
from reforge.corpora.tally import Tally
from reforge.runs.answers import Answer, answer_all, asked, readable
from reforge.runs.command_line import Parser, ended
from reforge.runs.conversation import converse
from reforge.runs.labelled_form import form_of
from reforge.runs.predictor import Predictor, load_predictor
from reforge.runs.raw_examples import CONTEXT, RawForm
from reforge.spec import UserError

Serve = Callable[[Path, str, int], None]
HOST, PORT = "127.0.0.1", 8000


def predict_command(serve: Serve, arguments: Sequence[str] | None = None) -> int:
    """`python jobs/predict.py RUN [TEXT ...] [--file FILE] [--json] [--serve]`; the process's exit code.

    serve: answers HTTP for a run, on a host and a port, until it is interrupted
    """
    return ended(lambda: _predict(serve, arguments))


def _predict(serve: Serve, arguments: Sequence[str] | None) -> None:
    options = _parser().parse_intermixed_args(arguments)
    _check(options)
    if options.serve:
        serve(options.run, options.host or HOST, options.port or PORT)
        return
    predictor = load_predictor(options.run)
    form = RawForm.of(predictor)
    if options.context is not None and not form.has_context:
        raise UserError(f"--context: the run's task, {predictor.kind}, takes {' and '.join(form.fields)} alone")
    context = None if options.context is None else _text_or_file(options.context)
    if options.texts or options.file or not sys.stdin.isatty():
        examples = _examples(predictor, form, options, context)
        show(answer_all(predictor, examples), as_json=options.json, alone=len(options.texts) > 0)
    else:
        converse(form, context, lambda example: show(answer_all(predictor, [example]), options.json, alone=True))


def _parser() -> Parser:
    parser = Parser(
        prog="predict.py", description="What a finished fine-tuning answers. Without TEXT or FILE: a prompt."
    )
    parser.add_argument("run", type=as_place, metavar="RUN", help="the run's folder, such as runs/finetune-quickstart")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts, a pair of them, or questions about --context")
    parser.add_argument(
        "--file", type=as_place, metavar="FILE", help="a text a line; two with a tab between them for pairs"
    )
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help="the form of FILE, such as nsmc or squad; key=value in place of TEXT are its options",
    )
    parser.add_argument("--context", metavar="TEXT|FILE", help="what the questions are about")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--serve", action="store_true", help="answer HTTP until Ctrl-C (needs the extra serve)")
    parser.add_argument("--host", metavar="HOST", help=f"with --serve (default: {HOST}, this machine alone)")
    parser.add_argument("--port", type=_port, metavar="PORT", help=f"with --serve (default: {PORT})")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 65535, got {text!r}")
    return int(text)


def _check(options: argparse.Namespace) -> None:
    """Raise UserError at options that do not go together."""
    given = [name for name in ("texts", "file", "kind", "context", "json") if getattr(options, name)]
    if options.serve and given:
        raise UserError(f"--serve takes its texts over HTTP: leave out {', '.join(_flag(name) for name in given)}")
    for name in ("host", "port"):
        if getattr(options, name) is not None and not options.serve:
            raise UserError(f"--{name} has no effect without --serve")
    if options.kind and not options.file:
        raise UserError("--kind has no effect without --file")
    if options.kind and options.context is not None:
        raise UserError(f"--context must be left out: a set of kind {options.kind} has its own")
    if options.file and options.texts and not options.kind:
        raise UserError("--file and TEXT do not go together")


def _flag(name: str) -> str:
    return "TEXT" if name == "texts" else f"--{name}"


def _text_or_file(given: str) -> str:
    """The content of the file of that name, or the text itself."""
    path = Path(given)
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else given
    except UnicodeDecodeError as error:
        raise UserError(f"--context: {path} is not UTF-8: byte 0x{error.object[error.start]:02x}") from None
    except OSError:  # too long for a file's name
        return given


def _examples(
    predictor: Predictor, form: RawForm, options: argparse.Namespace, context: str | None
) -> Iterator[Example]:
    if options.kind:
        labelled = form_of(predictor, options.file, options.kind, options.texts)
        return labelled.read(path=options.file, labelled=False)
    if form.has_context and context is None:
        raise UserError("--context TEXT or FILE must say what the questions are about (or --file with --kind squad)")
    known = {} if context is None else {CONTEXT: context}
    rows = _typed(form, options.texts) if options.texts else _rows(form, _lines(options.file))
    return (form.example(key, {**dict(zip(form.fields, texts, strict=False)), **known}) for key, texts in rows)


def _typed(form: RawForm, texts: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Key and texts of each example of a command line: a pair, or as many as there are texts."""
    if not form.is_pair:
        yield from ((str(number), [text]) for number, text in enumerate(texts, 1))
    elif len(texts) == 2:
        yield "1", texts
    else:
        raise UserError(f"the run takes pairs: must be two TEXTs, got {len(texts)}")


def _rows(form: RawForm, lines: Iterator[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Key and texts of each line."""
    for key, line in lines:
        texts = line.split("\t") if form.is_pair else [line]
        if form.is_pair and len(texts) != 2:
            raise UserError(f"{key}: must be two texts with a tab between them, has {len(texts) - 1} tabs")
        yield key, texts


def _lines(file: Path | None) -> Iterator[tuple[str, str]]:
    """The lines of a file, or of what is piped, each with its place."""
    return _piped_lines() if file is None else _file_lines(file)


def _file_lines(file: Path) -> Iterator[tuple[str, str]]:
    if not file.is_file():
        nearest = None if file.exists() else nearest_existing(file)
        meant = f"; did you mean {nearest}?" if nearest else ""
        raise UserError(f"--file: {file} {'is no file' if file.exists() else 'does not exist'}{meant}")
    reader = Reader(file, file.name, Tally())
    for line in reader.lines():
        yield f"{file.name}:{reader.line_number()}", line


def _piped_lines() -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(sys.stdin.buffer, 1):
        key = f"standard input:{number}"
        try:
            yield key, raw.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{key}: is not UTF-8: byte 0x{raw[error.start]:02x}") from None


def show(answers: Iterator[Answer], as_json: bool, alone: bool) -> None:
    """Print each answer; what was asked stands before it unless it is `alone` and the user sees it already."""
    colour = Console().color_system is not None
    for answer in answers:
        if as_json:
            print(json.dumps(answer, ensure_ascii=False), flush=alone)
            continue
        question = None if alone else asked(answer)
        print(readable(answer, colour) if question is None else f"{question}\n{readable(answer, colour)}\n")
