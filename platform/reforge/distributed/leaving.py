"""Processes that have to go: their node is about to be taken away, or their group is to be formed anew.

a node's notice (`ray drain-node`, a spot instance's two minutes) --watching()--> \\
                                                                                  is_leaving() --> checkpoint, Leaving
another number of workers ------------------------------------------leave()-----> /

Whoever trains asks `is_leaving` before each step; one process that says yes ends the step for all.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray._private import state

# A notice comes 30 seconds before the node goes, on some clouds.
NOTICE_EVERY_SECONDS = 2.0

_asked = threading.Event()


def leave() -> None:
    """Let what trains in this process end at its next step."""
    _asked.set()


def is_leaving() -> bool:
    """Whether this process has to go."""
    return _asked.is_set()


@contextmanager
def watching(act: Callable[[], object] = leave) -> Iterator[None]:
    """As long as the context lasts, a notice to this node makes this process leave, or `act` once."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(NOTICE_EVERY_SECONDS):
            if has_notice():
                act()
                return

    thread = threading.Thread(target=watch, daemon=True, name="reforge-notices")
    _asked.clear()
    thread.start()
    try:
        yield
    finally:
        ended.set()


def has_notice() -> bool:
    """Whether the node that this process runs on is about to go."""
    draining = draining_nodes()
    return bool(draining) and ray.get_runtime_context().get_node_id() in draining


def draining_nodes() -> set[str]:
    """The nodes that have got notice, by id; none where the head does not answer."""
    try:
        return set(state.state.get_draining_nodes())
    except Exception:  # of many kinds, and the head may be back the next time
        return set()
