"""Every experiment runs from end to end on a small scale, and writes what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.mueller2024 import fm_dynamics, memory, table1_burst
from experiments.mueller2024.small_networks import shuffled
from fastweights import convert_fm, zoo
from fastweights.burst import weights
from fastweights.burst.models import ModelConfig, build

ROOT = Path(__file__).parents[2]


def as_a_command(module, *arguments, data=None):
    environment = {name: value for name, value in os.environ.items() if name != "FASTWEIGHTS_DATA"}
    environment |= {} if data is None else {"FASTWEIGHTS_DATA": str(data)}
    command = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_single_frame(run, data):
    assert "one frame" in run("mueller2024.single_frame", "--smoke", data=data)


def test_paper_protocol(data, tmp_path):
    written = ("--out", tmp_path / "run", "--result", tmp_path / "r.json")
    shown = as_a_command("mueller2024.paper_protocol", "--smoke", *written, data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result["psnr"]) >= {"network", "one frame", "mean of 8", "network, clipped"}
    assert result["command"].startswith("python -m experiments.mueller2024.paper_protocol")
    assert f"{result['psnr']['network']:6.2f} dB" in shown


def test_converted_networks(run, tmp_path):
    if "kpn" not in weights.available():
        pytest.skip("no weights named kpn ship")
    run("mueller2024.converted_networks", "--smoke", "--result", tmp_path / "r.json")
    (row,) = json.loads((tmp_path / "r.json").read_text())["networks"].values()
    assert row["largest difference"] < 1e-4
    assert all("saves nothing" in line for line in row["layers"])


def test_folded_ranks(run, data, tmp_path):
    if "kpn" not in weights.available():
        pytest.skip("no weights named kpn ship")
    run("mueller2024.folded_ranks", "--smoke", "--result", tmp_path / "r.json", data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["gates without loss"] == {"luma": 199, "chroma": 199}
    assert result["psnr of all gates"] == result["psnr of the kernels"]
    assert set(result["by gates"]) == {"4", "8"}


def test_memory(run, data, tmp_path):
    for name, changes in (("kpn", {}), ("kpn-from-8", {"features": 8}), ("gated-8", {"kind": "gated", "maps": 8})):
        config = ModelConfig(width=4, post=4, **changes)
        (folder := tmp_path / f"{name}-seed0").mkdir()
        weights.save_weights(folder / "weights.safetensors", build(config), config, {})
    others = {"kpn, kernels held", "kpn, 16 gates", "kpn-from-8, as gates"}
    assert set(memory.names(tmp_path)) == {"gated-8", "kpn", "kpn-from-8"} | others
    (tmp_path / "gated-8-seed0").rename(tmp_path / "gated-8")  # every row starts a process
    kept = ("--runs", tmp_path, "--result", tmp_path / "r.json", "--figure", tmp_path / "f.png")
    run("mueller2024.memory", "--smoke", "--count", 1, *kept, data=data)
    rows = json.loads((tmp_path / "r.json").read_text())["networks"]
    assert set(rows) == {"kpn", "kpn-from-8"} | others
    assert rows["kpn-from-8"]["psnr"] == pytest.approx(rows["kpn-from-8, as gates"]["psnr"])
    assert rows["kpn-from-8, as gates"]["largest difference"] < 1e-5
    assert all(row["training seconds"] > 0 and row["inference seconds"] > 0 for row in rows.values())


def test_table1_burst(run, data, tmp_path):
    runs = ("--runs", tmp_path / "runs")
    for name in ("kpn", "basis-48"):
        assert "psnr" in run("mueller2024.table1_burst", "train", name, "--smoke", *runs, data=data)
    written = ("--result", tmp_path / "r.json", "--picture", tmp_path / "p.png")
    run("mueller2024.table1_burst", "judge", "--smoke", *runs, *written, data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["networks"]["kpn-seed0"]["channels of the largest code"] == 200
    assert result["networks"]["basis-48-seed0"]["channels of the largest code"] == 48
    scores, differences = result["sets"]["paper"]["scores"], result["sets"]["paper"]["differences"]
    behind = scores["basis-48-seed0"]["psnr"] - scores["kpn-seed0"]["psnr"]
    assert differences["basis-48 - kpn, 1 seeds"]["difference"] == pytest.approx(behind, abs=0.02)
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_table1_pairs_networks_of_one_seed():
    each = {"kpn-seed0": [30.0, 20.0], "kpn-seed1": [31.0, 21.0], "kpn-seed2": [0.0, 0.0]}
    each |= {"gated-64-seed0": [29.0, 19.0], "gated-64-seed1": [30.5, 20.5]}
    (found,) = table1_burst.differences(each, each).items()
    assert found[0] == "gated-64 - kpn, 2 seeds"
    assert found[1] == {"difference": -0.75, "error": 0.0, "each seed": [-1.0, -0.5], "error over seeds": 0.25}


def test_table1_pairs_networks_of_one_width():
    each = {"kpn-seed0": [30.0], "kpn-full-seed0": [31.0], "gated-64-seed0": [29.0], "gated-64-full-seed0": [30.5]}
    found = {name: row["difference"] for name, row in table1_burst.differences(each, each).items()}
    expected = {"gated-64 - kpn": -1.0, "gated-64-full - kpn-full": -0.5, "kpn-full - kpn": 1.0}
    assert found == {f"{name}, 1 seeds": value for name, value in expected.items()}
    assert table1_burst.networks()["gated-64-full"] == ModelConfig(kind="gated", maps=64)


def test_movielens(run, data, tmp_path):
    run("mueller2024.movielens", "--smoke", "--result", tmp_path / "r.json", data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["ratings"] == 5000
    assert set(result["methods"]) == {"biases", "fastweights.fm, als", "fastweights.fm, mcmc", "torch loop"}
    for row in result["methods"].values():
        assert 0.8 < row["rmse"] < 1.2
        assert row["ms_per_epoch"] > 0


def test_fm_dynamics(run, data, tmp_path):
    paths = ("--result", tmp_path / "r.json", "--picture", tmp_path / "p.png")
    run("mueller2024.fm_dynamics", "--smoke", *paths, data=data)
    rows = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert (tmp_path / "p.png").stat().st_size > 1000
    for name, row in rows.items():
        assert row["difference"][0] < 1e-12
        if "machine's own" in name:
            assert max(row["difference"]) < 1e-9
        else:
            assert row["difference"][1] > 1e-6


def test_a_hypernetwork_on_ids_is_the_layer_on_vectors():
    torch.manual_seed(0)
    machine = fm_dynamics.start(0)
    ids = torch.tensor([[3, 943], [942, 2624]])
    x = torch.zeros(2, 943 + 1682, dtype=torch.float64).scatter(1, ids, 1.0)
    layer = convert_fm.to_linear_hypernetwork(machine, binary=True)
    torch.testing.assert_close(fm_dynamics.on_ids(layer, ids), layer(x)[:, 0])
    for name in fm_dynamics.STYLES:
        _, forward = fm_dynamics.hypernetwork(name, machine)
        torch.testing.assert_close(forward(ids), machine(x)[:, 0])


def test_fig3_random(run, tmp_path):
    kept = ("--runs", tmp_path / "runs", "--result", tmp_path / "r.json", "--figure", tmp_path / "f.png")
    shown = run("mueller2024.fig3_random", "--smoke", *kept)
    cells = json.loads((tmp_path / "r.json").read_text())["cells"]
    assert {"grid-B8-G-1.0", "grid-B8-M-1.0", "construction-B16", "rank-2x3x5", "rank-3x3x3"} < set(cells)
    assert max(cells["construction-B16"]["torch.float64"]) < 1e-25
    # From the literature: 3 x 3 x 3 is the exception to the count of parameters, which would give 4.
    assert [cells[name]["smallest exact"] for name in ("rank-2x3x5", "rank-3x3x3")] == [5, 5]
    assert cells["grid-B8-M-1.0"]["multiply-adds"] >= cells["grid-B8-G-1.0"]["multiply-adds"]
    assert cells["grid-B8-G-1.0"]["error"]["mean"] < 1  # 1: always zero
    assert (tmp_path / "f.png").stat().st_size > 1000
    # Nothing runs twice.
    assert len(run("mueller2024.fig3_random", "--smoke", *kept).splitlines()) == len(shown.splitlines()) - len(cells)


def test_conditioning(run, data, tmp_path):
    shown = run("conditioning", "--smoke", "--result", tmp_path / "r.json", data=data)
    methods = json.loads((tmp_path / "r.json").read_text())["methods"]
    assert len(methods) == 7
    assert all(54_000 < row["parameters"] <= 60_000 for row in methods.values())
    assert all(0 < row["accuracy"]["0"] < 0.6 for row in methods.values())
    # Nothing is trained twice.
    again = run("conditioning", "--smoke", "--result", tmp_path / "r.json", data=data)
    assert len(again.splitlines()) == len(shown.splitlines()) - 7


def test_layers_that_learn(run, data, tmp_path):
    run("mueller2024.layers_that_learn", "--smoke", "--result", tmp_path / "r.json", data=data)
    parts = json.loads((tmp_path / "r.json").read_text())["parts"]
    without_context = {"HyperHead", "siren", "with_inverse", "StaticHyperConv2d"}
    assert set(parts["layers"]) == set(zoo.__all__) - without_context
    for row in parts["layers"].values():
        assert row["seeds"]["0"]["own"] != row["seeds"]["0"]["shuffled"]
    assert len(parts["initialisation"]) == 20
    assert len(parts["simple gate"]) == 6


def test_shuffled_contexts_are_those_of_the_sample_before():
    layer = zoo.HyperLinear(3, 2, context_features=4).double()
    x, context = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    with shuffled(layer):
        mixed = layer(x, context)
    torch.testing.assert_close(mixed, layer(x, context.roll(1, 0)))
    assert not torch.allclose(mixed, layer(x, context))


def test_theorems(run, tmp_path):
    run("mueller2024.theorems", "--seeds", 3, "--result", tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())
    for name in ("Theorem 3.1", "Corollary 3.2"):
        assert len(found[name]["networks"]) == 3
        assert found[name]["weights equal to the bit"]
        assert 0 <= found[name]["largest difference"] < 1e-12
    assert found["Theorem 3.3"]["largest difference"] < 1e-12
    for row in found["Theorem 3.3"]["networks"]:
        assert row["rank of the machine as a hypernetwork"] == row["rank"]
        assert row["of the other as a machine"] <= max(1, row["inputs"] - 1)


def test_the_list_of_claims(run):
    done = subprocess.run([sys.executable, "-m", "experiments"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "\npython -m experiments.mueller2024.theorems\n" in done.stdout
    assert "docs/reproduction.md" in done.stdout
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "experiments"]
    stopped = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writer)
    assert not stopped.stderr


@pytest.mark.slow
def test_attention_gates(run, data, tmp_path):
    kept = ("--runs", tmp_path / "runs", "--result", tmp_path / "r.json", "--figure", tmp_path / "f.png")
    run("mueller2024.attention_gates", "--smoke", *kept, data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    for cell in result["networks"]:
        size = cell["patches"]
        for head in cell["heads"]:
            # Rows that sum to one leave S (S - 1) + 1 dimensions, and real maps fill them.
            assert head["span, exact"] == head["gates at most"] == size * (size - 1) + 1
            assert 1 <= head["rank of a map"] <= head["span"] <= head["gates"] <= head["gates at most"]
    for size, row in result["conversions"].items():
        assert row["softmax, gates a head"] == int(size) ** 2
        assert row["linear, gates"] == 64 * 16  # of any length
        assert max(row["linear, largest difference"], row["softmax, largest difference"]) < 1e-12
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_fold(run, data, tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(width=4, post=24)
    weights.save_weights(tmp_path / "kpn.safetensors", build(config), config, {})
    paths = ("--network", tmp_path / "kpn.safetensors", "--runs", tmp_path / "runs")
    written = ("--result", tmp_path / "r.json", "--figure", tmp_path / "f.png")
    run("mueller2024.fold", "--smoke", *paths, *written, data=data)
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert set(rows) >= {"kpn", "kernels, 4 gates", "weighted, 200 gates", "weighted, 4 gates, tuned", "kpn, tuned"}
    for basis in ("kernels", "weighted"):
        assert abs(rows[f"{basis}, 200 gates"]["psnr"] - rows["kpn"]["psnr"]) < 1e-3
        assert rows[f"{basis}, 200 gates"]["error"] < 1e-9 < rows[f"{basis}, 4 gates"]["error"]
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_fig3_cifar(run, data, tmp_path):
    kept = ("--runs", tmp_path / "runs", "--result", tmp_path / "r.json", "--figure", tmp_path / "f.png")
    run("mueller2024.fig3_cifar", "--smoke", *kept, data=data)
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result["H"]) == {"trained-16", "random-16"}
    assert len(result["cells"]) == 6
    for cell in result["cells"].values():
        assert max(cell["final"]) < 1  # 1: always zero
    for row in result["H"].values():
        assert max(row["trivial"]["affine map"]) < max(row["trivial"]["constant"]) < 1
        for one in row["ranks"]["each"]:
            # The head reads 128 features and a bias.
            assert one["span"] <= one["exact"] <= 129
            assert one["rank of one"] <= 10
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_basis_cost(run, tmp_path):
    run("mueller2024.basis_cost", "--smoke", "--result", tmp_path / "r.json")
    networks = json.loads((tmp_path / "r.json").read_text())["networks"]
    basis, large, small = (networks[name] for name in ("90 basis kernels, K = 15", "kernels, K = 15", "kernels, K = 5"))
    assert small["largest in maps"] == basis["largest in maps"] == 96  # the U-Net's own
    assert large["largest in maps"] == 8 * 15**2 / 4
    assert small["multiply_adds"] < basis["multiply_adds"] < large["multiply_adds"]
