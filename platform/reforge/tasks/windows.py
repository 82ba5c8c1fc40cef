"""Windows over what is longer than the model reads at once, and the part of each window that counts.

pieces   |----------------------------------|
windows  |--------------|
                 |--------------|
                    |---------------|          the last one reaches to the end
own      |==========|======|========|          each piece counts where it has the most context
"""

from itertools import pairwise


def cut(num_pieces: int, room: int, stride: int) -> list[tuple[int, int]]:
    """[start, stop) of windows of at most `room` pieces, each `stride` after the one before; together they hold all.

    One window where everything fits, also where there is nothing. The last one is as long as the others: it begins
    less than `stride` after the one before it.
    """
    assert 1 <= stride <= room, (stride, room)
    if num_pieces <= room:
        return [(0, num_pieces)]
    starts = [*range(0, num_pieces - room, stride), num_pieces - room]
    return [(start, start + room) for start in starts]


def own_shares(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The [start, stop) in which each window has more context than its neighbours: they touch, and none overlap."""
    seams = [(start + stop) // 2 for (_, stop), (start, _) in pairwise(windows)]
    return list(zip([windows[0][0], *seams], [*seams, windows[-1][1]], strict=True))
