"""Named sizes: widths and depths under the names that papers give them.

tiny to base are the BERT grid (Turc et al. 2019, https://arxiv.org/abs/1908.08962, table 1), heads of width 64;
gpt3_small is GPT-3's smallest (Brown et al. 2020, https://arxiv.org/abs/2005.14165, table 2.1).
"""

from typing import Literal, NamedTuple

Size = Literal["tiny", "mini", "small", "medium", "base", "gpt3_small"]


class Dimensions(NamedTuple):
    """What a size's name stands for."""

    depth: int
    d_model: int
    num_heads: int


SIZES: dict[str, Dimensions] = {
    "tiny": Dimensions(2, 128, 2),
    "mini": Dimensions(4, 256, 4),
    "small": Dimensions(4, 512, 8),
    "medium": Dimensions(8, 512, 8),
    "base": Dimensions(12, 768, 12),
    "gpt3_small": Dimensions(12, 768, 12),
}
