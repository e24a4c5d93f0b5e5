"""Threads for code that uses one processor: pools that are kept, and a function of many things side by side."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def each(function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """The function of every item, in order, on as many threads as torch uses; what it raises is raised.

    The function does not call `each` itself: threads that wait for each other would not end.

    Example
    -------
    >>> each(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    number = torch.get_num_threads()
    return [function(item) for item in items] if number == 1 else list(pool("each", number).map(function, items))


@functools.cache
def pool(name: str, number: int) -> ThreadPoolExecutor:
    """The threads of a name, which wait for no other's: kept, because starting threads is felt in small work."""
    return ThreadPoolExecutor(number, thread_name_prefix=name)


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=pool.cache_clear)
