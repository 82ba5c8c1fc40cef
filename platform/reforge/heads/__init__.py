"""Heads: hidden states in, the scores of a task out. A new one is one file here and one line in `HEADS`."""

from typing import TYPE_CHECKING

from reforge.heads.cnn import CNNOptions
from reforge.heads.crf import CRFOptions
from reforge.heads.emissions import LSTMOptions
from reforge.heads.head import Head, HeadOptions, Level, Outputs, TokenHead
from reforge.heads.linear import LinearOptions
from reforge.heads.regression import RegressionOptions
from reforge.heads.span import SpanOptions
from reforge.spec import one_of

HEADS: dict[str, type[HeadOptions]] = {
    "linear": LinearOptions,
    "cnn": CNNOptions,
    "crf": CRFOptions,
    "span": SpanOptions,
    "regression": RegressionOptions,
}

if TYPE_CHECKING:
    AnyHead = HeadOptions
else:
    AnyHead = one_of(HEADS)

__all__ = ["HEADS", "AnyHead", "Head", "HeadOptions", "LSTMOptions", "Level", "Outputs", "TokenHead"]
