"""errors.md: the worst answers of a set, for people."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from reforge.tasks import Verdict
from reforge.tracking.markdown import plain
from reforge.tracking.whole_file import write_whole

LONGEST_TEXT = 1000
LONGEST_ANSWER = 500


def write_errors(path: Path, verdicts: Sequence[tuple[str, Verdict]], limit: int = 100) -> None:
    """Write the `limit` worst of all (key, verdict) pairs as Markdown, worst first, equally bad ones by key.

    Texts are cut after 1,000 characters. The file is the old one or the new one, never a part.
    """
    wrong = [(key, verdict) for key, verdict in verdicts if verdict.badness > 0]
    wrong.sort(key=lambda pair: (-pair[1].badness, pair[0]))
    lines = [*_heading(len(wrong), len(verdicts), limit), *_errors(wrong[:limit])]
    write_whole(path, "\n".join(lines) + "\n")


def _heading(num_wrong: int, num_examples: int, limit: int) -> Iterator[str]:
    yield "# Errors\n"
    share = f" ({num_wrong / num_examples:.2%})" if num_examples else ""
    listed = f" The {limit:,} worst of them:" if num_wrong > limit else ""
    yield f"{num_wrong:,} of {num_examples:,} examples are wrong{share}.{listed}"


def _errors(wrong: Sequence[tuple[str, Verdict]]) -> Iterator[str]:
    for place, (key, verdict) in enumerate(wrong, start=1):
        yield f"\n## {place}. {plain(key, LONGEST_ANSWER)}\n"
        yield f"{plain(verdict.text, LONGEST_TEXT)}\n"
        yield f"- gold: {plain(verdict.gold, LONGEST_ANSWER)}"
        yield f"- guess: {plain(verdict.guess, LONGEST_ANSWER)}"
        yield f"- badness: {verdict.badness:.4g}"
