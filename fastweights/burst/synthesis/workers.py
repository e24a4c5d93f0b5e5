"""OpenCV's threads and processes that fork: what makes bursts safe and cheap in the workers of a data loader."""

import os
import sys

import cv2
from torch.utils.data import get_worker_info


def one_thread_in_worker() -> None:
    """Keep OpenCV to one thread inside a DataLoader worker, as torch does with itself there; elsewhere change nothing.

    Example
    -------
    >>> before = cv2.getNumThreads()
    >>> one_thread_in_worker()
    >>> cv2.getNumThreads() == before
    True
    """
    if get_worker_info() is not None:
        cv2.setNumThreads(1)


class _ForkWithoutThreads:
    """OpenCV waits forever for the threads a forked process has not inherited, so the parent ends them before."""

    def __init__(self) -> None:
        self.threads = cv2.getNumThreads()

    def before(self) -> None:
        self.threads = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def after_in_parent(self) -> None:
        cv2.setNumThreads(self.threads)


if sys.platform != "win32":
    _fork = _ForkWithoutThreads()
    os.register_at_fork(before=_fork.before, after_in_parent=_fork.after_in_parent)
