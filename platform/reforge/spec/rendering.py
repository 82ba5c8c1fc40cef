"""A job as the YAML that makes it."""

import yaml

from reforge.spec.dialect import Dumper
from reforge.spec.part import Part


def render(job: Part) -> str:
    """The resolved spec, every default written out, as YAML that loads back to an equal job.

    Other YAML readers understand the same: floats carry a point (1.0e-04), text that looks like another type quotes.
    """
    return yaml.dump(
        job.model_dump(mode="json"), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
