"""The one error a user of the denoiser can cause and repair."""


class BurstError(ValueError):
    """A sentence for the user: what was given, what was expected and what to do.

    The command line prints it after ``error: `` and exits with status 2, without a traceback.

    Example
    -------
    >>> str(BurstError("a burst needs 2 to 32 frames, got 1: give more photos"))
    'a burst needs 2 to 32 frames, got 1: give more photos'
    """
