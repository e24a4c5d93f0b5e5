"""Image files in and out: frames as their files hold them, one picture written whole or not at all."""

from fastweights.burst.images.picture import Details, PathLike, Picture
from fastweights.burst.images.reading import SAMPLE, SUFFIXES, find, read, read_frames
from fastweights.burst.images.writing import DEEP_SUFFIXES, TIFF_SUFFIXES, check_output, write, write_whole

__all__ = [
    "DEEP_SUFFIXES",
    "SAMPLE",
    "SUFFIXES",
    "TIFF_SUFFIXES",
    "Details",
    "PathLike",
    "Picture",
    "check_output",
    "find",
    "read",
    "read_frames",
    "write",
    "write_whole",
]
