"""Classification: the class of a text."""

from typing import ClassVar, Literal

from tokenizers import Tokenizer

from reforge.tasks.class_task import ClassOptions, ClassTask
from reforge.tasks.text_rows import TextRows, Truncate


class ClassificationOptions(ClassOptions):
    """The class of a text, of those in the training set.

    truncate: what a text longer than a block loses
    """

    kind: Literal["classification"] = "classification"
    truncate: Truncate = "end"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")

    def bind(self, labels: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> ClassTask:
        """The task on a tokenizer."""
        return ClassTask(self, labels, tokenizer, TextRows(tokenizer, block_tokens, False, self.truncate))
