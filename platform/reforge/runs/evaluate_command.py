"""The command line of evaluation: a finished run's scores on its own test set or on any file of its task."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from reforge.corpora.labelled import Example
from reforge.corpora.place import as_place
from reforge.corpora.tally import Tally
from reforge.loop import Assessed
from reforge.runs.command_line import Parser, ended, say
from reforge.runs.finetune_results import keep_answers, write_scores
from reforge.runs.folder import RunFolder
from reforge.runs.labelled_form import form_of, own_set
from reforge.runs.predictor import Predictor, load_predictor
from reforge.runs.store import writable
from reforge.spec import UserError
from reforge.tasks import Scorecard


def evaluate_command(arguments: Sequence[str] | None = None) -> int:
    """`python jobs/evaluate.py RUN [--data FILE [--kind KIND] [key=value ...]] [--out FOLDER]`; the exit code."""
    return ended(lambda: _evaluate(arguments))


def _evaluate(arguments: Sequence[str] | None) -> None:
    options = _parser().parse_intermixed_args(arguments)
    predictor = load_predictor(options.run)
    name, examples = _examples(predictor, options)
    card, assessed = predictor.evaluate(examples)
    for note in predictor.task.notes():
        say(note)
    show_scores(name, len(examples), card, assessed.loss)
    if options.out is not None:
        keep(options.out, predictor, name, examples, card, assessed)
        print(f"\nwritten            {options.out}")


def _parser() -> Parser:
    parser = Parser(prog="evaluate.py", description="Score a finished fine-tuning on its test set, or on any file.")
    parser.add_argument("run", type=as_place, metavar="RUN", help="the run's folder, such as runs/finetune-quickstart")
    parser.add_argument("--data", type=as_place, metavar="FILE", help="what to score (default: the run's own test set)")
    parser.add_argument(
        "--kind", metavar="KIND", help="the form of FILE, such as nsmc or tsv (default: as the run's own)"
    )
    parser.add_argument(
        "--out", type=as_place, metavar="FOLDER", help="write metrics, predictions, errors and pictures here"
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help="options of the form: text=review label=stars")
    return parser


def _examples(predictor: Predictor, options: argparse.Namespace) -> tuple[str, list[Example]]:
    """The name of the set to score, and its examples."""
    if options.data is None:
        if options.kind or options.words:
            raise UserError("--data FILE must say which file --kind and key=value are about")
        return own_set(predictor)
    tally = Tally()
    form = form_of(predictor, options.data, options.kind, options.words)
    examples = list(form.read(path=options.data, tally=tally))
    for reason, count in tally.dropped.most_common():
        say(f"left out: {reason} {count:,}")
    return options.data.name, examples


def show_scores(name: str, num_examples: int, card: Scorecard, loss: float) -> None:
    """Print the metrics, the main one first, and the figures of each class or type."""
    print(f"{'examples':<24} {num_examples:,} of {name}")
    for metric, value in {**card.metrics, "loss": loss}.items():
        print(f"{metric:<24} {value:.4f}")
    if card.per_class:
        print("\n" + "\n".join(_table(card.per_class)))


def _table(per_class: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns = list(next(iter(per_class.values())))
    lines = [" ".join([f"{'class':<24}", *(f"{column:>9}" for column in columns)])]
    for name, figures in per_class.items():
        cells = [f"{value:>9,.0f}" if column == "support" else f"{value:>9.4f}" for column, value in figures.items()]
        lines.append(" ".join([f"{name:<24}", *cells]))
    return lines


def keep(
    out: Path, predictor: Predictor, name: str, examples: list[Example], card: Scorecard, assessed: Assessed
) -> None:
    """Write what a finished run keeps of its last set; raises UserError where the folder cannot be written."""
    try:
        with writable(out) as here:
            write_scores(RunFolder(here), {name: card})
            keep_answers(RunFolder(here), predictor.task, examples, assessed)
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error.strerror}") from error
