"""Galanti 2020, the tasks on real images and the sizes at equal error: each runs, and is what it says."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from experiments.galanti2020 import (
    assumption1,
    assumption2,
    cifar,
    colorization,
    gap,
    mnist,
    rotation,
    rotation_embedding,
    sweep,
)
from experiments.galanti2020.merged import Merged


def options(tmp_path, **changes):
    return sweep.Options(**{"seeds": 2, "epochs": 1, "smoke": True, "result": tmp_path / "r.json"} | changes)


def rows(tmp_path):
    return json.loads((tmp_path / "r.json").read_text())["rows"]


@pytest.fixture(autouse=True)
def where_data_is(request, monkeypatch):
    if "data" in request.fixturenames:
        monkeypatch.setenv("FASTWEIGHTS_DATA", str(request.getfixturevalue("data")))


def test_rotation_of_colours(data, tmp_path):
    rotation.main(options(tmp_path, x=[2]), data="cifar10")
    assert len(rows(tmp_path)) == 2
    images = cifar.images("test", 5)
    ((x, context, _),) = rotation.batches(images, 0, 1, 5)
    assert x.shape == context.shape == (1, 5, 3072)
    planes = context[0, 0].view(3, 32, 32)
    # Each colour turns as Pillow turns it.
    whole = ((planes * mnist.DEVIATION + mnist.MEAN) * 255).round().byte().permute(1, 2, 0).numpy()
    generator = torch.Generator().manual_seed(0)
    torch.randperm(5, generator=generator)
    degrees = 360 * torch.rand(5, generator=generator)[0].item()
    turned = torch.from_numpy(np.asarray(Image.fromarray(whole).rotate(degrees)).copy()).permute(2, 0, 1)
    same = mnist.normalised(turned) == x[0, 0].view(3, 32, 32)
    assert same.float().mean() > 0.99


def test_cifar_is_in_order(data):
    images = cifar.images("test", 150)
    if (archive := data / "cifar10" / "cifar-10-batches-bin" / "test_batch.bin").exists():
        planes = np.frombuffer(archive.read_bytes()[107 * 3073 + 1 : 108 * 3073], np.uint8).reshape(3, 32, 32)
        second_row = Image.fromarray(planes.transpose(1, 2, 0).copy())
    else:
        with Image.open(data / "cifar10" / "test_batch.webp") as sheet:
            second_row = sheet.convert("RGB").crop((32 * 7, 32, 32 * 8, 64))
    assert (images[107].view(3, 32, 32).permute(1, 2, 0).numpy() == np.asarray(second_row)).all()
    assert cifar.labels("test", 150).tolist()[:4] == [3, 8, 8, 0]  # cat, ship, ship, airplane
    grey = np.asarray(second_row.convert("L"))
    assert np.abs(cifar.grey(images[107]).view(32, 32).numpy() * 255 - grey).max() < 1


def test_rotation_embedding(data, tmp_path):
    rotation_embedding.main(options(tmp_path, x=[1, 2]))
    assert [(row["method"], row["x"]) for row in rows(tmp_path)] == [
        ("embedding", 1),
        ("embedding", 2),
        ("hypernetwork", 0),
    ]
    q = rotation_embedding.build("embedding", 2).network.primary
    assert q[0].in_features == 784 + 20_000


def test_colorization(data, tmp_path):
    colorization.main(options(tmp_path, x=[2]))
    assert all(0 < row["after_epochs"]["1"]["mean"] < 1 for row in rows(tmp_path))
    assert colorization.lifted(torch.tensor(0.5), torch.tensor(0.25)).shape == (42,)
    # Embedded once an image, as if it stood beside every pixel's position.
    network, x, context = colorization.build("embedding", 3), torch.randn(2, 5, 42), torch.randn(2, 1024)
    assert isinstance(network, Merged)
    torch.testing.assert_close(network(x, context), network.network(x, context, grouped=True), rtol=1e-4, atol=1e-5)
    assert sum(colorization.build("hypernetwork", 2).network.shapes.values(), ()) == (10, 42, 3, 10)


def test_assumption2(data, tmp_path):
    assumption2.main(epochs=1, seeds=2, result=tmp_path / "r.json", figure=tmp_path / "f.png", smoke=True)
    found = json.loads((tmp_path / "r.json").read_text())["data"]
    assert set(found) == {"mnist", "cifar10-grey"}
    assert all(row["error"]["9"]["mean"] < row["error"]["1"]["mean"] for row in found.values())


def test_masked_networks_train_as_smaller_ones():
    torch.manual_seed(0)
    images, labels = torch.randn(256, 12), torch.randint(0, 10, (256,))
    found = assumption2.run([(images, labels), (images[:1000], labels)], (3, 7), epochs=2, seeds=1)
    torch.manual_seed(0)
    first, last = nn.Linear(12, 3), nn.Linear(3, 10)
    network = nn.Sequential(first, nn.ELU(), last)
    optimiser = torch.optim.Adadelta(network.parameters(), lr=1.0)
    target = nn.functional.one_hot(labels, 10).float()
    for epoch in range(2):
        for chosen in torch.randperm(256, generator=torch.Generator().manual_seed(epoch)).split(64):
            optimiser.zero_grad()
            (network(images[chosen]) - target[chosen]).square().sum(-1).mean().backward()
            optimiser.step()
    expected = (network(images) - target).square().sum(-1).mean().item()
    assert found["error"]["3"]["mean"] == pytest.approx(expected, rel=1e-4)


def test_gap(tmp_path):
    kept = {"result": tmp_path / "r.json", "figure": tmp_path / "f.png", "smoke": True}
    gap.main(**kept)
    content = json.loads((tmp_path / "r.json").read_text())
    assert [(row["method"], row["m2"], row["d"]) for row in content["rows"]] == [
        (method, m2, d) for m2 in (1, 2) for d in (1, 2) for method in ("g", "q")
    ]
    gap.main(**kept)
    assert json.loads((tmp_path / "r.json").read_text())["rows"] == content["rows"]


def test_fits_are_networks():
    """Against nn.Sequential on every point, masked units left out."""
    torch.manual_seed(0)
    fits = gap.Fits(torch.zeros(1, 5, 4), (2, 6), restarts=1, steepness=2.0, size=3)
    for number, width in enumerate((2, 6)):
        net = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        with torch.no_grad():
            net[0].weight.copy_(torch.cat([fits.a[number, :width, None], fits.c[number, :width]], 1))
            net[0].bias.copy_(fits.b[number, :width])
            net[2].weight.copy_(fits.v[number, None, :width])
        pairs = torch.cat([fits.x.repeat_interleave(4)[:, None], fits.z[number].T.repeat(5, 1)], 1)
        torch.testing.assert_close(fits()[number], net(pairs).view(5, 4))


def test_assumption1_on_colours():
    assert assumption1.target(3, 32)(torch.randn(2, 3072)).shape == (2, 10)
    assert assumption1.target(3, 32)[-1].in_features == 200  # 2 x 2 pixels of 50 channels
