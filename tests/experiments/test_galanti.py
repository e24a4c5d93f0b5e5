"""Galanti 2020: every experiment runs from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.galanti2020 import (
    assumption1,
    embedding_size,
    mnist,
    predicted_parameters,
    rotation,
    start,
    sweep,
)
from experiments.galanti2020 import layers as layer_sweep
from experiments.galanti2020.batched import embedding_method, hypernetwork
from experiments.galanti2020.synthetic import KINDS, Data, Target
from experiments.galanti2020.synthetic import run as synthetic_run


def options(tmp_path, **changes):
    return sweep.Options(**{"seeds": 2, "epochs": 2, "smoke": True, "result": tmp_path / "r.json"} | changes)


def rows(tmp_path):
    return json.loads((tmp_path / "r.json").read_text())["rows"]


@pytest.mark.parametrize(("module", "x"), [(layer_sweep, [2, 4]), (embedding_size, [1, 2])], ids=["1a", "1b"])
def test_synthetic_sweeps(module, x, tmp_path):
    module.main(options(tmp_path, x=x, starts=["default", "hyperfan-in"]))
    found = rows(tmp_path)
    assert [(row["method"], row["x"], row["start"]) for row in found] == [
        (method, one, start)
        for start in ("default", "hyperfan-in")
        for one in x
        for method in sweep.METHODS
        if (method, start) != ("embedding", "hyperfan-in")
    ]
    assert all(list(row["after_epochs"]) == ["1", "2"] for row in found)
    assert all(len(row["after_epochs"]["2"]["each"]) == 2 for row in found)


def test_predicted_parameters(tmp_path):
    predicted_parameters.main(options(tmp_path, x=[8]))
    assert [row["method"] for row in rows(tmp_path)] == [
        "embedding",
        "first biases",
        "first layer",
        "last layer",
        "all",
    ]
    predicted = {name: list(predicted_parameters.build(name, 8).shapes) for name in predicted_parameters.PREDICTED}
    first, last = ["0.weight", "0.bias"], ["2.weight", "2.bias"]
    assert predicted == {"first biases": first[1:], "first layer": first, "last layer": last, "all": first + last}


def test_a_sweep_goes_on_where_it_stopped(tmp_path):
    layer_sweep.main(options(tmp_path, x=[2], seconds=-1))
    assert not (tmp_path / "r.json").exists()
    layer_sweep.main(options(tmp_path, x=[2]))
    first = rows(tmp_path)
    layer_sweep.main(options(tmp_path, x=[2, 3]))
    assert rows(tmp_path)[:2] == first
    assert len(rows(tmp_path)) == 4
    layer_sweep.main(options(tmp_path, x=[2], seeds=3))
    assert sorted(row["seeds"] for row in rows(tmp_path)) == [2, 2, 3, 3]
    # Neither holds all of the other: both stay.
    layer_sweep.main(options(tmp_path, x=[3], seeds=1, epochs=3))
    assert (
        sorted((row["seeds"], row["epochs"]) for row in rows(tmp_path) if row["x"] == 3) == [(1, 3)] * 2 + [(2, 2)] * 2
    )


def test_a_smoke_run_never_writes_the_real_result():
    with pytest.raises(SystemExit, match="--result"):
        layer_sweep.main(sweep.Options(smoke=True))


def test_more_training_helps_on_the_synthetic_target():
    data = Data(2, 10, 4000, 500)
    build = {
        "hypernetwork": lambda: hypernetwork((10, 10, 1), (10, 20)),
        "embedding": lambda: embedding_method((10, 10, 1), (10, 20, 30)),
    }
    for method in sweep.METHODS:
        job = sweep.Job(method, 0, epochs=5, seeds=2)
        after = synthetic_run(job, lambda method, x: build[method](), data)
        assert after["5"]["mean"] < after["1"]["mean"] < 2 * data.head["baselines"]["variance"]["mean"]


def test_target_is_the_paper_s():
    target = Target(0, 6, 50, 20)
    mixing = target.mixing(target.context)
    torch.testing.assert_close(mixing.sum(-1), torch.ones(70))
    one, two, three = (weight.double() for weight in target.weights)
    h = torch.softmax(three @ torch.sigmoid(two @ torch.sigmoid(one @ target.context[0].double())), 0)
    torch.testing.assert_close((h @ target.x[0].double()).float(), target.y[0, 0], rtol=1e-5, atol=1e-6)
    # He-uniform: variance 2 / fan_in.
    assert two.var().item() == pytest.approx(2 / 300, rel=0.02)


@pytest.mark.parametrize("kind", ["II", "III"])
def test_other_targets_are_the_paper_s(kind):
    target = Target(0, 6, 250, 50, kind)
    h = torch.cat([target.x, target.context], 1) if kind == "II" else target.x * target.context
    sizes = {"II": [(100, 12), (50, 100), (50, 50), (1, 50)], "III": [(100, 6), (100, 100), (50, 100), (1, 50)]}
    assert [tuple(weight.shape) for weight in target.weights] == sizes[kind]
    for number, weight in enumerate(target.weights):
        h = h @ weight.T if number == 0 else torch.where(h > 0, h, h.exp() - 1) @ weight.T
    torch.testing.assert_close(target.y, h, rtol=1e-4, atol=1e-5)
    assert target.weights[1].var().item() == pytest.approx(2 / 100, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_without_the_context(kind):
    """Against the definition: the variance of y over contexts at a fixed x, averaged over x."""
    target = Target(1, 8, 3000, 1000, kind)
    context = torch.randn(2000, 8)
    left = [target(x.expand(2000, -1), context).var().item() for x in torch.randn(300, 8)]
    assert target.ignoring_context == pytest.approx(np.mean(left), rel=0.35)


@pytest.mark.parametrize("kind", ["II", "III"])
def test_sweeps_of_other_targets(kind, tmp_path):
    layer_sweep.main(options(tmp_path, x=[2], epochs=1), target=kind)
    assert [row["method"] for row in rows(tmp_path)] == ["embedding", "hypernetwork"]
    embedding_size.main(options(tmp_path, x=[1], epochs=1, result=tmp_path / "e.json"), target=kind)
    variances = [json.loads((tmp_path / f"{name}.json").read_text())["baselines"]["variance"]["mean"] for name in "re"]
    assert min(variances) > 0.5  # that of type I is a tenth


def test_starts():
    contexts = torch.randn(500, 30)
    for name, scale in (("default", 1 / 3), ("he", 2.0), ("hyperfan-in", None), ("anchored", 0.1 / 3)):
        torch.manual_seed(0)
        network = hypernetwork((40, 10, 1), (30, 50, 60))
        start.apply(network, name, contexts)
        templates = network.head.structures[0].templates
        features = network.predictor(contexts).detach().square().mean()
        # Chang 2020 with a ReLU behind and no predicted bias: 2 / (d_in k Var(e)).
        expected = (
            2 / (40 * 60 * features) if name == "hyperfan-in" else scale / (60 * (40 if name == "anchored" else 1))
        )
        assert templates.var().item() == pytest.approx(float(expected), rel=0.05), name
    with pytest.raises(ValueError, match="zero"):
        start.apply(hypernetwork((4, 3, 1), (5, 6)), "zero", contexts)


def test_sizes_are_the_paper_s():
    """Weights without biases, as the paper counts them (12 classes instead of its 1, e's 1000 i outputs)."""

    def count(network):
        return sum(p.numel() for name, p in network.named_parameters() if p.ndim > 1 and "base" not in name)

    k, d = 4, 784
    assert count(layer_sweep.build("hypernetwork", k)) == 10**5 + 10**4 * (k - 2) + 100 * 10_010
    assert count(layer_sweep.build("embedding", k)) == 10**5 + 10**4 * (k - 2) + 10**6 + 110_010
    assert count(embedding_size.build("hypernetwork", 3)) == 10**4 + 3 * 10**4 + 3 * 101_000
    assert count(embedding_size.build("embedding", 3)) == 2 * 10**4 + 3 * 10**5 + 3 * 10**4 + 1010
    assert count(rotation.build("hypernetwork", k)) == 50 * d + 2500 * (k - 2) + 50 * (10 * d + 120)
    assert (
        count(rotation.build("embedding", k)) == 50 * d + 2500 * (k - 2) + 50 * (10 * d + 10) + 10 * (11 * d + 10) + 120
    )


def test_rotation_is_pillow_s():
    random = np.random.Generator(np.random.PCG64(0))
    for size in (28, 9):
        image = random.integers(0, 256, (size, size), dtype=np.uint8)
        for degrees in (0.0, 13.7, 90.0, 201.3, 359.5):
            turned = np.asarray(Image.fromarray(image).rotate(degrees))
            ours = mnist.rotated(torch.from_numpy(image).flatten(), torch.tensor(degrees))
            # Coordinates on the edge between two pixels may fall to either side.
            assert (ours.view(size, size).numpy() == turned).mean() > 0.99


def test_rotation(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTWEIGHTS_DATA", str(data))
    rotation.main(options(tmp_path, x=[2, 3]))
    assert len(rows(tmp_path)) == 4
    assert all(0 < row["after_epochs"]["2"]["mean"] < 1 for row in rows(tmp_path))


def test_assumption1(tmp_path):
    assumption1.main(["uniform"], epochs=2, seeds=2, result=tmp_path / "r.json", smoke=True)
    found = json.loads((tmp_path / "r.json").read_text())["spaces"]["uniform"]
    assert [len(found[name]) for name in ("f1 and f2", "f1 and y")] == [3, 3]
    assert found["f1 and y"][-1]["mean"] < found["f1 and y"][0]["mean"]
    shapes = [tuple(p.shape) for p in assumption1.target().parameters()]
    assert shapes == [(20, 1, 10, 10), (20,), (50, 20, 10, 10), (50,), (10, 50), (10,)]


def test_pictures_show_every_row(tmp_path):
    pytest.importorskip("matplotlib")
    from experiments.galanti2020 import figures

    results = Path(__file__).parents[2] / "results"
    figures.main(results=results, picture=tmp_path / "p.png", appendix=tmp_path / "a.png")
    for name in ("p.png", "a.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 500
    rates = [row["rate"] for row in json.loads((results / "galanti2020_rotation.json").read_text())["rows"]]
    (axes,) = [axes for axes in figures.draw_appendix(results).axes if "k = 4" in axes.get_title()]
    assert len(axes.containers[0].lines[0].get_xdata()) == len(set(rates)) > 1
    content = json.loads((results / "galanti2020_layers.json").read_text())
    (axes,) = [axes for axes in figures.draw(results).axes if "1 (a)" in axes.get_title()]
    most = max(row["epochs"] for row in content["rows"])
    literal = {
        (row["method"], row["x"])
        for row in content["rows"]
        if (row["start"], row["rate"], row["epochs"]) == ("default", 0.01, most)
    }
    diverged = [line.get_xdata() for line in axes.lines if "diverged" in line.get_label()]
    drawn = sum(len(xs) for xs in [*(bars.lines[0].get_xdata() for bars in axes.containers), *diverged])
    assert drawn == len(literal)
