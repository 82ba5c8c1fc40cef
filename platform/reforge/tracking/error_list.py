"""errors.md: the worst answers of a set, for people."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reforge.tasks import Verdict

LONGEST_TEXT = 1000
LONGEST_ANSWER = 500


def write_errors(path: Path, verdicts: Sequence[tuple[str, Verdict]], limit: int = 100) -> None:
    """Write the `limit` worst of all (key, verdict) pairs as Markdown: old file or new one, never a part."""
    wrong = [(key, verdict) for key, verdict in verdicts if verdict.badness > 0]
    wrong.sort(key=lambda pair: (-pair[1].badness, pair[0]))
    text = "\n".join([*_heading(len(wrong), len(verdicts), limit), *_errors(wrong[:limit])])
    writing = path.with_name(f".{path.name}.writing")
    writing.write_text(text + "\n", encoding="utf-8")
    writing.replace(path)


def _heading(num_wrong: int, num_examples: int, limit: int) -> Iterator[str]:
    yield "# Errors\n"
    share = f" ({num_wrong / num_examples:.2%})" if num_examples else ""
    yield f"{num_wrong:,} of {num_examples:,} examples are wrong{share}."
    if num_wrong > limit:
        yield f"The {limit} worst of them, worst first:"


def _errors(wrong: Sequence[tuple[str, Verdict]]) -> Iterator[str]:
    for place, (key, verdict) in enumerate(wrong, start=1):
        yield f"\n## {place}. {_plain(key, LONGEST_ANSWER)}\n"
        yield f"{_plain(verdict.text, LONGEST_TEXT)}\n"
        yield f"- gold: {_plain(verdict.gold, LONGEST_ANSWER)}"
        yield f"- guess: {_plain(verdict.guess, LONGEST_ANSWER)}"
        yield f"- badness: {verdict.badness:.4g}"


def _plain(text: str, longest: int) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = " ".join(text.split())
    if len(line) > longest:
        line = f"{line[:longest]}… ({len(line):,} characters)"
    return re.sub(r"([\\`*_{}\[\]<>#|~$&!+-])", r"\\\1", line) or "(nothing)"
