"""A rank's batch in micro-batches: all samples once, with their partners, and padding where there are too few."""

import numpy as np
import pytest

from reforge.batches import Batch
from reforge.loop.train import split


def batch_of(num_rows: int, partners: bool) -> Batch:
    ids = np.arange(1, num_rows * 16 + 1).reshape(num_rows, 16)
    return Batch(ids, np.full(num_rows, 2), np.arange(num_rows), ids[:, ::-1] if partners else None)


@pytest.mark.parametrize("partners", [True, False])
@pytest.mark.parametrize(("num_rows", "num_parts"), [(7, 1), (7, 3), (2, 4), (0, 2)])
def test_parts_hold_every_row_once_and_padding_for_those_that_lack(
    num_rows: int, num_parts: int, partners: bool
) -> None:
    batch = batch_of(num_rows, partners)
    parts = split(batch, num_parts)
    assert len(parts) == num_parts
    full = [part for part in parts if part.ids.any()]
    assert [row for part in full for row in part.ids.tolist()] == batch.ids.tolist()
    assert [sample for part in full for sample in part.samples] == list(range(num_rows))
    for part in parts:
        assert part.ids.shape[1] == 16
        assert len(part.ids) == len(part.epochs) == len(part.samples) > 0
        assert (part.partners is not None) is partners
        if part.partners is not None:
            assert (part.partners == part.ids[:, ::-1]).all()
