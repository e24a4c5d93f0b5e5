"""What every test shares: fixed seeds, few threads, the folder of real data, hypothesis without deadlines."""

import os
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

# A deadline would be a timing test; derandomized, a run that was green stays green.
hypothesis.settings.register_profile("fastweights", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fastweights")

torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder FASTWEIGHTS_DATA with real images and bursts; without it the test is skipped."""
    folder = os.environ.get("FASTWEIGHTS_DATA")
    if not folder:
        pytest.skip("needs real data: set the environment variable FASTWEIGHTS_DATA to its folder")
    return Path(folder)


@pytest.fixture
def unchecked_shapes():
    """Turns jaxtyping's checks off: torch.compile(fullgraph=True) cannot trace through them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
