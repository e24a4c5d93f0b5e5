"""Frames side by side: what is done to every frame by code that uses one processor."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def each(function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """The function of every item, in order, on as many threads as torch uses; what it raises is raised.

    Example
    -------
    >>> each(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    number = torch.get_num_threads()
    if number == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(function, items))
