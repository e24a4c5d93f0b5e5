"""The burst denoiser's commands; flags come from the signatures, help from the docstrings."""

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import fastweights
from fastweights.burst import batch, conversion, images
from fastweights.burst import demo as demonstration
from fastweights.burst import evaluate as evaluation
from fastweights.burst.errors import BurstError
from fastweights.burst.models import ModelConfig
from fastweights.burst.settings import TrainConfig, paper_protocol
from fastweights.burst.train import train as train_network

# What shells say of a program that Ctrl-C ended.
_STOPPED = 130
# The settings of a training run that its help explains; the others are listed with their defaults.
_EXPLAINED = ("data", "out", "task", "kind", "start", "precision")


def run(arguments: Sequence[str], *more: Callable[[], None]) -> int:
    """Runs a command line, with further commands, and returns the exit status; a user's error is one line on stderr."""
    app = _app(*more)
    try:
        app(arguments)
    except CycloptsError as error:
        command = f" {arguments[0]}" if arguments and arguments[0] in app else ""
        return _fail(f"{error} See fastweights{command} --help")
    except BurstError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _STOPPED
    return 0


def demo(*, output: Path = Path("fastweights-demo.png"), threads: int | None = None) -> None:
    """Denoise a made-up burst of a photo that ships, with every network that ships.

    Eight noisy hand-held frames are made from a NASA portrait by a simulated camera, the same at every run. Prints
    PSNR, seconds and largest feature map of each network beside one frame and the mean, and writes one picture.

    Example: fastweights demo --output demo.png

    Args:
        output: The comparison picture: PNG, JPEG, WebP or TIFF.
        threads: Processor threads; by default torch's choice.
    """
    images.check_output(output)
    batch.set_threads(threads)
    console = Console()
    with console.status("denoising"):
        entries = demonstration.run()
    table = Table("picture", "PSNR dB", "seconds", "largest feature map")
    for entry in entries[:-1]:
        seconds = "" if entry.seconds is None else f"{entry.seconds:.2f}"
        table.add_row(entry.name, f"{entry.psnr:.2f}", seconds, entry.largest)
    images.write(output, demonstration.comparison(entries))
    console.print(table)
    print(f"wrote {output}")


def denoise(
    *frames: Path,
    output: Annotated[Path, Parameter(alias="-o", show_default=False)] = Path("denoised.png"),
    settings: Annotated[batch.Settings | None, Parameter(name="*")] = None,
    suffix: str = ".png",
    jobs: int = 1,
) -> None:
    """Make one clean picture from 2 to 32 noisy photos of one scene.

    Example: fastweights denoise night/ -o clean.png

    Example: fastweights denoise BURSTS/*/ -o OUT/ --jobs 4

    Args:
        frames: A folder, files, or several folders of a burst each.
        output: The picture, its suffix is the format; or a folder.
        suffix: Format in a folder.
        jobs: Bursts at a time, in a process each.
    """
    bursts = batch.outputs(frames, output, suffix)
    settings = settings or batch.Settings()
    several, failures = len(bursts) > 1, list[str]()
    with _bursts(len(bursts)) as done:
        shown = sys.stderr.isatty() and not several
        for report in batch.run(bursts, settings, jobs, shown):
            done()
            if report.failed:
                failures.append(report.lines[0])
                if several:
                    print(f"error: {report.lines[0]}", file=sys.stderr)
            else:
                print("\n".join(report.lines[-1:] if several else report.lines))
    if failures:
        raise BurstError(f"{len(failures)} of {len(bursts)} bursts failed, see above" if several else failures[0])


@contextmanager
def _bursts(number: int) -> Iterator[Callable[[], None]]:
    """A function that is called after each of several bursts; a bar tells of it on a terminal."""
    shown = number > 1 and sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task("bursts", total=number)
        yield lambda: progress.advance(task)


def evaluate(
    source: Path,
    *,
    sets: Annotated[tuple[str, ...], Parameter(name="--set", negative=[])] = ("camera",),
    reference: Path | None = None,
    model: Annotated[tuple[str, ...], Parameter(negative=[])] = (),
    count: int = 72,
    bm3d: bool = True,
    result: Path | None = None,
    pictures: Path | None = None,
) -> None:
    """Compare networks and classical methods by PSNR and SSIM, on made-up bursts of photos or on one real burst.

    Every method sees the same bursts. The first network is compared with every other method, burst by burst.

    Example: fastweights evaluate photos --set camera --result scores.json

    Args:
        source: A folder of clean photos; with --reference a burst's folder.
        sets: Bursts to make: camera, camera-mean, camera-jpeg, paper (random noise), paper-gain1, -2, -4, -8.
        reference: The clean picture of the burst in `source`: a photo, or .npy of linear light (H, W, 3).
        model: Networks that ship or .safetensors files; by default those that ship.
        count: Bursts of a set.
        bm3d: BM3D too; needs the extra `baselines`.
        result: A JSON file for all figures; a line is added to NAME.looks.jsonl beside it at every evaluation.
        pictures: A folder for sheets of crops, one for each of the first 4 bursts.
    """
    evaluation.run(evaluation.Request(source, sets, reference, model, count, bm3d), result, pictures, Console())


def convert(
    weights: str,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    rank: int | None = None,
    data: Path | None = None,
    json: Path | None = None,
) -> None:
    """Turn a network that predicts kernels into one that predicts gates, for the same picture or a cheaper one.

    Prints what it saves and what it changes, on bursts made from the photos (without --data, from one that ships).
    The file is a network like any other: fastweights denoise night/ --model OUT.safetensors.

    Example: fastweights convert kpn -o gates.safetensors --rank 64 --data photos

    Args:
        weights: A network that ships or a .safetensors file.
        output: A new .safetensors file.
        rank: Gates of each predicted weight; by default as many as give the same picture.
        data: A folder of photos; with --rank, the pictures of bursts made from them say what is kept.
        json: A file for all figures.
    """
    conversion.check(output, json)
    console = Console()
    with console.status("converting"):
        outcome = conversion.convert(weights, output, rank, data)
    if json is not None:
        conversion.write(json, outcome)
    console.print(conversion.table(outcome))
    print(f"{conversion.sentence(outcome)}\nwrote {output}")


def train(config: Any) -> None:
    """Train a network on bursts made from photos; a run that was stopped goes on when the command is repeated.

    Example: fastweights train --data photos --out run --kind gated --width 32
    """
    given = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    network = {name: value for name, value in given.pop("model").items() if value is not None}
    try:
        model = dataclasses.replace(_preset(**network).model, **network)
        train_network(dataclasses.replace(_preset(**network), model=model, **given))
    except BurstError:
        raise
    except ValueError as error:
        raise BurstError(str(error)) from error


def _preset(
    task: Literal["camera", "paper"] = "camera", kind: Literal["kpn", "gated", "basis"] = "kpn", **other: Any
) -> TrainConfig:
    """The defaults of a task and a kind of network; `other` settings change nothing else."""
    if task == "paper":
        return paper_protocol(ModelConfig(), (), "")
    out_kernel_size = 1 if kind == "gated" else None
    return TrainConfig((), "", ModelConfig(task="camera", kind=kind, unit_sum=True, out_kernel_size=out_kernel_size))


def _flags(config: TrainConfig | ModelConfig) -> type:
    """The class of a config again with every field optional: None is a flag that was not given."""
    hints = typing.get_type_hints(type(config))
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, ModelConfig):
            flags = _flags(value)
            fields.append((field.name, Annotated[flags, Parameter(name="*")], dataclasses.field(default_factory=flags)))
        elif field.default is dataclasses.MISSING:
            fields.append((field.name, Annotated[hints[field.name], Parameter(negative=[])]))
        else:
            shown = Parameter(show=field.name in _EXPLAINED)
            fields.append((field.name, Annotated[hints[field.name] | None, shown], None))
    made = dataclasses.make_dataclass(f"{type(config).__name__}Flags", fields, kw_only=True)
    # A class that claims to be of the module `types`, as make_dataclass says, is no dataclass to cyclopts.
    made.__module__, made.__doc__ = __name__, type(config).__doc__
    return made


def _defaults(config: TrainConfig) -> str:
    settings = dataclasses.asdict(config)
    del settings["data"], settings["out"]
    settings |= settings.pop("model")
    flags, off = [], []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is None or value == "":
            off.append(f"--{flag}")
        else:
            flags.append(f"--{flag} {value}")
    return f"{' '.join(flags)}; not set: {' '.join(off)}"


def _app(*more: Callable[[], None]) -> App:
    app = App(
        name="fastweights",
        help="Clean pictures from noisy bursts, by predicted weights.",
        version=fastweights.__version__,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    train.__annotations__["config"] = Annotated[_flags(_preset()), Parameter(name="*")]
    defaults = f"Defaults: {_defaults(_preset())}. With --task paper those of Mildenhall et al. 2018."
    app.command(train, help=f"{inspect.getdoc(train)}\n\n{defaults}")
    commands: tuple[Callable[..., None], ...] = (convert, demo, denoise, evaluate, *more)
    for command in commands:
        app.command(command)
    return app


def _fail(sentence: str) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return 2
