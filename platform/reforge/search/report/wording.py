"""Values of parameters as people read them."""

from reforge.spec.problem import show_value


def worded(value: object) -> str:
    """Text as it is, numbers to six digits, lists as YAML writes them."""
    match value:
        case str():
            return value
        case float():
            return f"{value:.6g}"
        case _:
            return show_value(value)
