"""Whether activations fit in memory, for `memory: auto`."""

from typing import Literal, TypeVar

from reforge.models.backbone import Device

# The other half is for weights, gradients, the optimizer, the step's working set and what the estimate misses.
SHARE_FOR_ACTIVATIONS = 0.5
GIB = 2**30
Instead = TypeVar("Instead", Literal["checkpoint"], Literal["reversible"])


def decide_memory(num_bytes: int, device: Device, instead: Instead) -> tuple[Instead | Literal["keep"], str]:
    """`keep` where `num_bytes` of activations fit in half of the device's memory, else `instead`; and why."""
    fits = num_bytes <= SHARE_FOR_ACTIVATIONS * device.memory_bytes
    choice: Instead | Literal["keep"] = "keep" if fits else instead
    verb = "fit" if fits else "do not fit"
    size, room = num_bytes / GIB, device.memory_bytes / GIB
    return choice, f"memory: {choice}, {size:.2f} GiB of activations {verb} in half of {room:.2f} GiB"
