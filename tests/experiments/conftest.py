"""What runs an experiment."""

import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys):
    """An experiment by its arguments, in this process: in one of its own half the time would go into imports."""

    def call(module, *arguments, data=None):
        monkeypatch.chdir(ROOT)
        monkeypatch.delenv("FASTWEIGHTS_DATA", raising=False)
        if data is not None:
            monkeypatch.setenv("FASTWEIGHTS_DATA", str(data))
        threads = torch.get_num_threads()
        try:
            importlib.import_module(f"experiments.{module}").app([str(word) for word in arguments])
        except SystemExit as end:
            if end.code:
                raise
        finally:
            torch.set_num_threads(threads)
        return capsys.readouterr().out

    return call
