"""The prompt: what is typed goes to the run, until an empty line or the input's end."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, takewhile

from reforge.corpora.labelled import Example
from reforge.runs.command_line import say
from reforge.runs.raw_examples import CONTEXT, RawForm
from reforge.spec import UserError

Ask = Callable[[str], str]


def converse(form: RawForm, context: str | None, answer: Callable[[Example], None], ask: Ask = input) -> None:
    """Ask for the fields of an example and have it answered, again and again; for a context once, before the questions.

    ask: shows its argument and gives the line that is typed; raises EOFError at the input's end
    """
    with suppress(ImportError):  # the library is no part of every Python; without it lines have no history
        import readline  # noqa: F401  (input() has history and cursor keys where it is loaded)
    say("an empty line or Ctrl-D ends")
    try:
        if form.has_context and context is None:
            context = _paragraphs(ask)
        for number in count(1):
            values = {} if context is None else {CONTEXT: context}
            for name in form.fields:
                if name not in values and not (values := {**values, name: ask(f"{name}> ")})[name].strip():
                    return
            _answered(form, str(number), values, answer)
    except EOFError:
        say("")  # the shell's own prompt begins a line


def _answered(form: RawForm, key: str, values: dict[str, str], answer: Callable[[Example], None]) -> None:
    try:
        answer(form.example(key, values))
    except UserError as error:  # the next line may be a better one
        say(str(error))


def _paragraphs(ask: Ask) -> str:
    """The lines of a context, up to an empty one."""
    say("first the context, as many lines as it has; an empty line, and the questions begin")

    def lines() -> Iterator[str]:
        while True:
            yield ask(f"{CONTEXT}> ")

    return "\n".join(takewhile(str.strip, lines()))
