"""The scores of classes, as scikit-learn computes them."""

from collections.abc import Sequence

from reforge.tasks.task import Confusion, Scorecard


def class_scorecard(gold: Sequence[int], guess: Sequence[int], names: tuple[str, ...]) -> Scorecard:
    """Accuracy, macro F1, figures of each class, and the confusion matrix, from the indices of classes.

    macro_f1 is scikit-learn's: a mean over the classes that occur, in truth or guess; 0 / 0 counts as 0
    """
    # Imported here: it takes two seconds, and most processes of a job score nothing.
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

    classes = range(len(names))
    figures = precision_recall_fscore_support(gold, guess, labels=classes, zero_division=0.0)
    return Scorecard(
        metrics={
            "accuracy": float(accuracy_score(gold, guess)),
            "macro_f1": float(f1_score(gold, guess, average="macro", zero_division=0.0)),
        },
        per_class={
            name: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": float(support)}
            for name, precision, recall, f1, support in zip(names, *figures, strict=True)
        },
        confusion=Confusion(names, confusion_matrix(gold, guess, labels=classes)),
    )
