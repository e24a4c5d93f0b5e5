"""The command line: what works without extras, every user's error in one line, help that fits a screen."""

import dataclasses
import subprocess
import sys

import pytest
import torch

import fastweights
from fastweights import __main__ as program


def run(*arguments):
    command = [sys.executable, "-m", "fastweights", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@pytest.fixture
def core_only(monkeypatch):
    real = program.find_spec
    monkeypatch.setattr(program, "find_spec", lambda name: None if name in ("cyclopts", "cv2") else real(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A burst of 3 small PNG files, and the weights of an untrained network."""
    pytest.importorskip("cyclopts")
    pytest.importorskip("cv2")
    from fastweights.burst import images, models, weights

    folder = tmp_path_factory.mktemp("cli")
    (folder / "burst").mkdir()
    photo = images.read(images.SAMPLE)[:, 200:248, 300:364]
    for number in range(3):
        frame = photo + 0.05 * torch.randn(photo.shape, generator=torch.manual_seed(number))
        images.write(folder / "burst" / f"{number}.png", frame)
    config = models.ModelConfig(task="camera", width=4, post=4, kernel_size=3, unit_sum=True)
    weights.save_weights(folder / "small.safetensors", models.build(config), config, {})
    return folder


def failed(capsys, status, *mentioned):
    """A user's error: status 2, nothing on stdout, one line on stderr that names what is wrong."""
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for text in mentioned:
        assert str(text) in err


def test_info_names_versions_and_fast_paths(capsys):
    assert program.main(["info"]) == 0
    out = capsys.readouterr().out
    assert fastweights.__version__ in out
    assert torch.__version__ in out
    for row in ("device", "threads", "local_conv", "bfloat16", "weights"):
        assert f"\n{row} " in out


@pytest.mark.usefixtures("core_only")
class TestWithoutExtras:
    @pytest.mark.parametrize("command", ["convert", "demo", "denoise", "train"])
    def test_says_which_extra_is_needed(self, command, capsys):
        status = program.main([command, "photos"])
        failed(capsys, status, f"`fastweights {command}`", "pip install 'fastweights[burst]'")

    def test_info_works(self, capsys):
        assert program.main(["info"]) == 0
        assert fastweights.__version__ in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["info", "--help"], ["--version"]])
    def test_help_works(self, arguments, capsys):
        assert program.main(arguments) == 0
        assert capsys.readouterr().out

    def test_unknown_command(self, capsys):
        failed(capsys, program.main(["paint"]), "paint", "denoise")


def test_denoise_writes_a_picture(folder, tmp_path):
    output = tmp_path / "clean.png"
    done = run("denoise", folder / "burst", "--output", output, "--model", folder / "small.safetensors", "--threads", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 frames of 64 x 48 pixels" in done.stdout
    assert str(output) in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["clean.png"]

    from fastweights.burst import images

    assert images.read(output).shape == (3, 48, 64)


class TestUserErrors:
    """Must show 6: each one line, status 2, nothing written."""

    @pytest.fixture
    def frames(self, folder, tmp_path):
        source = tmp_path / "frames"
        source.mkdir()
        for path in (folder / "burst").iterdir():
            (source / path.name).write_bytes(path.read_bytes())
        return source

    def denoise(self, folder, tmp_path, *more):
        before = sorted(tmp_path.rglob("*"))
        status = program.main(["denoise", *map(str, more), "--model", str(folder / "small.safetensors")])
        assert sorted(tmp_path.rglob("*")) == before
        return status

    def test_empty_folder(self, folder, tmp_path, capsys):
        (tmp_path / "nothing").mkdir()
        status = self.denoise(folder, tmp_path, tmp_path / "nothing", "-o", tmp_path / "clean.png")
        failed(capsys, status, tmp_path / "nothing")

    def test_missing_folder(self, folder, tmp_path, capsys):
        failed(capsys, self.denoise(folder, tmp_path, tmp_path / "no", "-o", tmp_path / "clean.png"), tmp_path / "no")

    def test_one_frame(self, folder, tmp_path, frames, capsys):
        status = self.denoise(folder, tmp_path, frames / "0.png", "-o", tmp_path / "clean.png")
        failed(capsys, status, "2 to 32", frames / "0.png")

    def test_one_frame_in_a_folder(self, folder, tmp_path, frames, capsys):
        for path in (frames / "1.png", frames / "2.png"):
            path.unlink()
        status = self.denoise(folder, tmp_path, frames, "-o", tmp_path / "clean.png")
        failed(capsys, status, "2 to 32", frames / "0.png")

    def test_no_frames_at_all(self, folder, tmp_path, capsys):
        failed(capsys, self.denoise(folder, tmp_path, "-o", tmp_path / "clean.png"), "2 to 32")

    def test_sizes_that_differ(self, folder, tmp_path, frames, capsys):
        from fastweights.burst import images

        images.write(frames / "1.png", torch.zeros(3, 48, 60))
        status = self.denoise(folder, tmp_path, frames, "-o", tmp_path / "clean.png")
        failed(capsys, status, frames / "1.png", "60 x 48", "64 x 48")

    @pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
    def test_truncated_file(self, folder, tmp_path, frames, part, capfd):
        content = (frames / "2.png").read_bytes()
        (frames / "2.png").write_bytes(content[: int(part * len(content))])
        status = self.denoise(folder, tmp_path, frames, "-o", tmp_path / "clean.png")
        failed(capfd, status, frames / "2.png")

    def test_text_named_png(self, folder, tmp_path, frames, capfd):
        (frames / "1.png").write_text("Dear diary,\n")
        status = self.denoise(folder, tmp_path, frames, "-o", tmp_path / "clean.png")
        failed(capfd, status, frames / "1.png")

    def test_text_named_png_in_a_process_of_its_own(self, folder, tmp_path, frames):
        (frames / "1.png").write_text("Dear diary,\n")
        done = run("denoise", frames, "--output", tmp_path / "clean.png")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"error: cannot read {frames / '1.png'}: ")
        assert not (tmp_path / "clean.png").exists()

    @pytest.mark.parametrize("name", ["nowhere/clean.png", "clean", "clean.gif", "frames", "frames/clean.png"])
    def test_impossible_output(self, folder, tmp_path, frames, name, capsys):
        failed(capsys, self.denoise(folder, tmp_path, frames, "-o", tmp_path / name), tmp_path / name)

    def test_output_that_is_a_frame(self, folder, tmp_path, frames, capsys):
        failed(capsys, self.denoise(folder, tmp_path, frames, "-o", frames / "1.png"), frames / "1.png")

    @pytest.mark.parametrize(
        "flags",
        [
            ["--reference", "3"],
            ["--bits", "12"],
            ["--bits", "16", "-o", "x.jpg"],
            ["--tile", "4"],
            ["--strength", "1.5"],
            ["--crop", "0", "0", "65", "48"],
            ["--white", "0"],
            ["--transfer", "linear"],
            ["--transfer", "linear", "--bits", "32"],
            ["--jobs", "0"],
            ["--threads", "0"],
            ["--colour", "red"],
            ["--reference", "first"],
            ["--model", "vgg"],
        ],
    )
    def test_impossible_settings(self, folder, tmp_path, frames, flags, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        model = [] if "--model" in flags else ["--model", str(folder / "small.safetensors")]
        failed(capsys, program.main(["denoise", str(frames), *model, *flags]))
        assert sorted(tmp_path.rglob("*")) == before

    def test_unknown_command(self, folder, capsys):
        failed(capsys, program.main(["paint"]), "paint")

    def test_train_needs_photos(self, folder, tmp_path, capsys):
        failed(capsys, program.main(["train", "--out", str(tmp_path)]), "--data")
        failed(capsys, program.main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "run")]), tmp_path)

    def test_model_settings_that_do_not_fit(self, folder, capsys):
        failed(capsys, program.main(["train", "--data", "a", "--out", "b", "--no-unit-sum"]), "unit_sum")


@pytest.mark.parametrize("command", ["", "convert", "demo", "denoise", "train", "info"])
def test_help_fits_a_screen_and_has_an_example(folder, command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert program.main([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 36
    assert max(map(len, lines)) <= 80
    assert command == "" or any(line.startswith(f"Example: fastweights {command}") for line in lines)


DATA = ("train", "--data", "a", "--out", "c")


class TestTrain:
    @pytest.fixture
    def trained(self, folder, monkeypatch):
        """The configs that training was asked for."""
        from fastweights.burst import commands

        configs: list[object] = []
        monkeypatch.setattr(commands, "train_network", configs.append)
        return configs

    def test_defaults_are_those_of_the_dataclass(self, trained):
        from fastweights.burst.settings import TrainConfig

        assert program.main(["train", "--data", "a", "--data", "b", "--out", "c"]) == 0
        assert trained == [TrainConfig(("a", "b"), "c")]

    def test_paper_task_has_the_paper_protocol(self, trained):
        from fastweights.burst.models import ModelConfig
        from fastweights.burst.settings import paper_protocol

        assert program.main([*DATA, "--task", "paper", "--steps", "7", "--width", "32"]) == 0
        assert trained == [paper_protocol(ModelConfig(width=32), ("a",), "c", 7)]

    def test_one_flag_changes_one_setting(self, trained):
        from fastweights.burst.models import ModelConfig
        from fastweights.burst.settings import TrainConfig

        assert program.main([*DATA, "--kind", "gated", "--maps", "32", "--no-annealed", "--lr", "0.1"]) == 0
        model = ModelConfig(task="camera", kind="gated", maps=32, unit_sum=True, out_kernel_size=1)
        assert trained == [TrainConfig(("a",), "c", model, annealed=False, lr=0.1)]

    def test_every_setting_has_its_own_flag(self, folder):
        from fastweights.burst.models import ModelConfig
        from fastweights.burst.settings import TrainConfig

        names = [field.name for config in (TrainConfig, ModelConfig) for field in dataclasses.fields(config)]
        assert len(set(names)) == len(names)


def test_demo_prints_a_table_and_writes_a_picture(folder, tmp_path, capsys, monkeypatch):
    from fastweights.burst import images, weights

    monkeypatch.setattr(weights, "FOLDER", folder)
    monkeypatch.setenv("COLUMNS", "100")
    assert program.main(["demo", "--output", str(tmp_path / "demo.png"), "--threads", "1"]) == 0
    out = capsys.readouterr().out
    for text in ("one frame", "mean of 8", "small", "PSNR", "MiB", str(tmp_path / "demo.png")):
        assert text in out
    assert images.read(tmp_path / "demo.png").shape[2] == 4 * 384
