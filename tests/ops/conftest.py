"""Both ways in which local_conv runs: numba's loops, and strips in plain torch."""

import pytest

from fastweights.ops import _local_conv_strips
from fastweights.ops._local_conv_operator import compiled_loops


@pytest.fixture(params=["loops", "strips"])
def way(request, monkeypatch):
    if request.param == "loops":
        pytest.importorskip("numba")
        assert compiled_loops() is not None
    monkeypatch.setenv("FASTWEIGHTS_NUMBA", "1" if request.param == "loops" else "0")
    # several strips even for the small images of these tests
    monkeypatch.setattr(_local_conv_strips, "_STRIP", 2000)
    return request.param
