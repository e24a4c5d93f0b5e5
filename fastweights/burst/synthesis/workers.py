"""What a data loader's worker process must do before it makes bursts."""

import cv2
from torch.utils.data import get_worker_info


def one_thread_in_worker() -> None:
    """Keep OpenCV to one thread inside a DataLoader worker, as torch does with itself there; elsewhere change nothing.

    The pictures are small, the workers are many, and a thread pool inherited through fork can hang.

    Example
    -------
    >>> before = cv2.getNumThreads()
    >>> one_thread_in_worker()
    >>> cv2.getNumThreads() == before
    True
    """
    if get_worker_info() is not None:
        cv2.setNumThreads(1)
