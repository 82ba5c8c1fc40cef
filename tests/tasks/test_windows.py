"""Windows: together they hold everything, and each piece counts exactly once, where it has the most context."""

import pytest

from reforge.tasks.windows import cut, own_shares


@pytest.mark.parametrize(("num_pieces", "room", "stride"), [(0, 4, 2), (4, 4, 4), (5, 4, 4), (11, 4, 1), (100, 10, 7)])
def test_each_piece_counts_once_where_it_has_the_most_context(num_pieces: int, room: int, stride: int) -> None:
    windows = cut(num_pieces, room, stride)
    shares = own_shares(windows)
    counted = [piece for start, stop in shares for piece in range(start, stop)]
    assert counted == list(range(num_pieces))
    assert all(stop - start <= room for start, stop in windows)
    for piece in counted:
        [own] = [number for number, (start, stop) in enumerate(shares) if start <= piece < stop]
        contexts = [context(piece, window, num_pieces) for window in windows]
        assert contexts[own] == max(contexts)


def context(piece: int, window: tuple[int, int], num_pieces: int) -> float:
    """How many pieces there are to the nearer side that is not the text's own end; less than 0 outside."""
    start, stop = window
    left = piece - start if start else float("inf")
    right = stop - 1 - piece if stop < num_pieces else float("inf")
    return min(left, right)


def test_windows_are_as_long_as_they_can_be() -> None:
    assert cut(10, 4, 3) == [(0, 4), (3, 7), (6, 10)]
    assert cut(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert own_shares([(0, 4), (3, 7), (6, 10)]) == [(0, 3), (3, 6), (6, 10)]
    assert cut(3, 4, 3) == [(0, 3)]
    assert own_shares([(0, 3)]) == [(0, 3)]
