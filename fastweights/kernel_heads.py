"""Gates in place of anyone's kernel head: a convolution that emits a kernel per pixel, whatever network it ends."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.gated_form import Bound, ConvertedLayer
from fastweights.structures import Gated


class GatedHead(nn.Module):
    """`y = sum_n gates_n(features) . (filters_n * frames)`: what `kernel_head` makes of a kernel head.

    gates: a convolution of the features; filters: a convolution of the frames, with zeros at the borders, as `F.unfold`
    pads (other borders: `PredictedWeight(structure, Patches(K, padding_mode="replicate"), gates)`). Where the features
    have a fraction of the frames' resolution, interpolate the gates as the kernels were: `combine(gates, frames)`.

    bound: the Frobenius norm of a kernel's error is at most `bound` times the norm of the features that the head sees
    around the pixel, with a 1 for its bias; 0 where no gate was left out.
    measured: with features, the root mean square error of their kernels, relative to these (with a metric, both under
    it: of the picture); None without.
    structure: V, the filters (F), and U, a sum over the gates (G, 1 x 1), as a structure of this library on Patches.
    report: kernel numbers before and gates after, with the bound; `print(gated.report)` shows it.
    """

    def __init__(self, gates: nn.Conv2d, filters: nn.Conv2d, bound: float, measured: float | None = None):
        super().__init__()
        self.gates, self.filters, self.bound, self.measured = gates, filters, bound, measured

    def forward(self, features: Float[Tensor, "b c h w"], frames: Float[Tensor, "b t h w"]) -> Float[Tensor, "b 1 h w"]:
        return self.combine(self.gates(features), frames)

    def combine(self, gates: Float[Tensor, "b n h w"], frames: Float[Tensor, "b t h w"]) -> Float[Tensor, "b 1 h w"]:
        """The picture from gates at the frames' resolution, or from one set of gates an image (1 x 1)."""
        expected = (self.gates.out_channels, self.filters.in_channels)
        same = gates.shape[-2:] in (frames.shape[-2:], (1, 1)) and len(gates) == len(frames)
        if (gates.shape[-3], frames.shape[-3]) != expected or not same:
            raise ValueError(
                f"GatedHead: gates of {tuple(gates.shape)} for frames of {tuple(frames.shape)}, expected "
                f"(b, {expected[0]}, h, w) and (b, {expected[1]}, h, w); interpolate gates of a lower resolution as "
                "the kernels were"
            )
        return (gates * self.filters(frames)).sum(1, keepdim=True)

    @property
    def structure(self) -> Gated:
        """The decomposition: `Gated` with V the filters (F) and U a row of ones (G)."""
        filters = self.filters.weight.flatten(1)
        return Gated(filters.new_ones(1, len(filters)), filters)

    @property
    def report(self) -> ConvertedLayer:
        """A line that says what was saved and what is lost; the code of its bound is what the head sees, with a 1."""
        taps, bound = self.filters.weight[0].numel(), Bound(0.0, self.bound)
        method = "singular vectors of the head" if self.measured is None else "chosen by real kernels"
        return ConvertedLayer(
            "kernel head", taps, self.gates.out_channels, method, bound, self.measured, "kernel numbers"
        )

    def extra_repr(self) -> str:
        measured = "" if self.measured is None else f", measured={self.measured:.3g}"
        return f"gates={self.gates.out_channels}, bound={self.bound:.3g}{measured}"


@torch.no_grad()
def window_moment(frames: Float[Tensor, "b t h w"], kernel_size: int) -> Float[Tensor, "i i"]:
    """The mean of `p p^T` over windows p of frames, in (t, u, v) order: the metric by which kernels make pictures.

    A kernel's error e changes a pixel by `e . p`, on average over windows by `e^T M e` squared. Windows a few pixels
    apart; every burst counts alike, whatever its brightness. In float64.

    >>> window_moment(torch.rand(2, 8, 12, 9), 5).shape
    torch.Size([200, 200])
    """
    if frames.ndim != 4 or len(frames) == 0 or min(frames.shape[-2:]) < kernel_size:
        raise ValueError(
            f"window_moment: the frames have shape {tuple(frames.shape)}, expected (b, t, h, w) of at least "
            f"{kernel_size} pixels a side"
        )
    moment = torch.zeros((), dtype=torch.float64, device=frames.device)
    for burst in frames:
        windows = nn.functional.unfold(burst[None], kernel_size, stride=kernel_size // 2 + 1)[0].double()
        moment = moment + windows @ windows.T / windows.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return moment * frames.shape[1] * kernel_size**2 / len(frames)


@torch.no_grad()
def kernel_head(
    head: nn.Conv2d,
    frames: int,
    kernel_size: int,
    *,
    order: str = "t u v",
    after: nn.Module | None = None,
    rank: int | None = None,
    features: Float[Tensor, "b c h w"] | None = None,
    metric: Float[Tensor, "i i"] | None = None,
) -> GatedHead:
    """A convolution that emits a kernel of frames x kernel_size x kernel_size numbers a pixel, as gates.

    With the head's weight as a matrix A (taps, c k k) and its bias a, a kernel is `[A, a] [patch ; 1]`. Its singular
    value decomposition `[A, a] = U S V^T` gives filters U^T on the frames and gates `S V^T [patch ; 1]`, again a
    convolution of the features: as many gates as [A, a] has rank, at most min(taps, c k k + 1). So a 1 x 1 head from C
    features needs C + 1 gates at most, a 3 x 3 head as many as taps, which saves nothing.

    Args:
        head: emits frames * kernel_size^2 numbers at every pixel, one group; of a head with several kernels a pixel
            give the slice of its channels for each.
        frames, kernel_size: T and the side K of the kernels, odd.
        order: of the head's channels, the slowest first: t frame, u row, v column of the tap. "t u v" is that of
            `F.unfold` on stacked frames, "u v t" that of the released KPN in TensorFlow.
        after: what stands behind the head, if it is linear or affine in the numbers of a pixel (a scale, a projection,
            batch normalisation in eval mode). Not the interpolation of kernels: the gates take its place.
        rank: the number of gates; the largest singular values are kept, and `bound` says what is lost.
        features: what the head sees of real inputs; with rank, the kernels it makes of them say what is kept: the
            principal subspace of their second moment, for which the mean squared error of these kernels is least.
        metric: M (taps, taps) in the order t u v; with rank, the error e of a kernel counts `e^T M e`. With the moment
            of the frames' windows (`window_moment`) that is the picture's error, and fewer gates do.

    Returns:
        `GatedHead`, in the dtype and on the device of the head: the gate head, both fixed layers and a report.

    Raises:
        TypeError: another kind of head; `after` is not affine (a softmax) or mixes pixels: no fixed number of gates is
            known.
        ValueError: sizes that do not fit, an order that is no permutation, a rank that is not possible, numbers that
            are not finite.

    Source: Müller 2024, Corollary 3.2, sharpened: one output channel makes the tensor of the weight a matrix.

    >>> features, frames = torch.randn(2, 16, 9, 8), torch.randn(2, 8, 9, 8)
    >>> head = nn.Conv2d(16, 8 * 5 * 5, 1)
    >>> gated = kernel_head(head, 8, 5)
    >>> kernels, columns = head(features).flatten(2), nn.functional.unfold(frames, 5, padding=2)
    >>> picture = (kernels * columns).sum(1).view(2, 1, 9, 8)
    >>> gated.gates.out_channels, torch.allclose(gated(features, frames), picture, atol=1e-4)
    (17, True)
    """
    if not isinstance(head, nn.Conv2d):
        raise TypeError(
            f"kernel_head: the head is {type(head).__name__}, expected nn.Conv2d; a linear layer of the features of a "
            "pixel is one with kernel_size=1"
        )
    taps = frames * kernel_size**2
    if head.out_channels != taps or min(frames, kernel_size) < 1 or kernel_size % 2 == 0 or head.groups != 1:
        raise ValueError(
            f"kernel_head: {head} for {frames} frames and kernels of {kernel_size} x {kernel_size}: expected one "
            f"group, an odd kernel size and {taps} output channels"
        )
    letters = order.split()
    if sorted(letters) != ["t", "u", "v"]:
        raise ValueError(f"kernel_head: order is {order!r}, expected the letters t, u and v, the slowest first")
    if rank is not None and rank < 1:
        raise ValueError(f"kernel_head: rank is {rank}, expected at least 1")
    if metric is not None and metric.shape != (taps, taps):
        raise ValueError(f"kernel_head: the metric has shape {tuple(metric.shape)}, expected ({taps}, {taps})")
    if metric is not None and not 0 < metric.trace() < torch.inf:
        raise ValueError("kernel_head: the metric is zero or not finite, expected the moment of real windows")
    if features is not None and (features.ndim != 4 or len(features) == 0 or features.shape[1] != head.in_channels):
        raise ValueError(
            f"kernel_head: the features have shape {tuple(features.shape)}, expected (b, {head.in_channels}, h, w) of "
            "at least one image"
        )
    if features is not None and not features.isfinite().all():
        raise ValueError("kernel_head: the features are not finite")
    weight = head.weight.double()
    bias = weight.new_zeros(taps) if head.bias is None else head.bias.double()
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise ValueError("kernel_head: the head's weight or bias is not finite")
    numbers = torch.cat([weight.flatten(1), bias[:, None]], dim=1)
    if after is not None:
        numbers = _behind(after, numbers, head)
    sizes = {"t": frames, "u": kernel_size, "v": kernel_size}
    places = [letters.index(letter) for letter in "tuv"]
    numbers = numbers.unflatten(0, [sizes[letter] for letter in letters]).permute(*places, 3).flatten(0, 2)
    u, s, vt = torch.linalg.svd(numbers, full_matrices=False)
    exact = max(1, int((s > s[0] * max(numbers.shape) * torch.finfo(torch.float64).eps).sum()))
    kept = min(rank or exact, exact)
    basis, maps = u[:, :exact], s[:exact, None] * vt[:exact]
    measured = None
    if kept < exact and (features is not None or metric is not None):
        moment = maps @ maps.T if features is None else _moment(maps, features, head)
        encode, decode, left = _principal(moment, None if metric is None else basis.T @ metric.to(basis) @ basis)
        basis, maps = basis @ decode, encode @ maps
        measured = None if features is None else left[kept].item()
    gates = _convolution(head, maps[:kept]).to(head.weight)
    filters = nn.Conv2d(frames, kept, kernel_size, padding=kernel_size // 2, bias=False).to(head.weight)
    filters.weight.copy_(basis[:, :kept].T.reshape(filters.weight.shape))
    lost = torch.linalg.matrix_norm(basis[:, kept:] @ maps[kept:], ord=2).item() if kept < exact else 0.0
    return GatedHead(gates, filters, lost, measured)


def _moment(maps: Float[Tensor, "n m"], features: Float[Tensor, "b c h w"], head: nn.Conv2d) -> Float[Tensor, "n n"]:
    """Second moment of `maps [patch ; 1]` over all pixels of the features."""
    gates = _convolution(head, maps).to(features)
    moment = maps.new_zeros(len(maps), len(maps))
    for image in features.split(1):
        numbers = gates(image)[0].flatten(1).to(maps)
        moment += numbers @ numbers.T
    return moment


def _principal(
    moment: Float[Tensor, "n n"], metric: Float[Tensor, "n n"] | None
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"], Float[Tensor, " n"]]:
    """(encode, decode, left) with decode encode = 1: their first r rows and columns leave least of numbers of a moment.

    left[r]: root mean square of what these leave, relative to the whole, both under the metric. The columns of decode
    have length 1.
    """
    root = inverse = torch.eye(len(moment)).to(moment)
    if metric is not None:
        power, axes = torch.linalg.eigh(metric)
        power = power.clamp(min=1e-9 * power[-1].item())  # what no window shows weighs next to nothing
        root, inverse = axes * power.sqrt() @ axes.T, axes * power.rsqrt() @ axes.T
    power, axes = torch.linalg.eigh(root @ moment @ root)
    power, axes = power.flip(0).clamp(min=0), axes.flip(1)
    left = (power.flip(0).cumsum(0).flip(0) / power.sum().clamp(min=torch.finfo(power.dtype).tiny)).sqrt()
    decode = inverse @ axes
    length = decode.norm(dim=0)
    return length[:, None] * axes.T @ root, decode / length, left


def _convolution(head: nn.Conv2d, maps: Float[Tensor, "n m"]) -> nn.Conv2d:
    """`maps [patch ; 1]` at every pixel where the head makes its numbers, in the dtype of the maps."""
    found = nn.Conv2d(
        head.in_channels,
        len(maps),
        (head.kernel_size[0], head.kernel_size[1]),
        stride=(head.stride[0], head.stride[1]),
        padding=head.padding if isinstance(head.padding, str) else (head.padding[0], head.padding[1]),
        dilation=(head.dilation[0], head.dilation[1]),
        padding_mode=head.padding_mode,
    ).to(maps)
    found.weight.copy_(maps[:, :-1].view_as(found.weight))
    assert found.bias is not None
    found.bias.copy_(maps[:, -1])
    return found


def _behind(after: nn.Module, numbers: Float[Tensor, "taps m"], head: nn.Conv2d) -> Float[Tensor, "taps m"]:
    """[A, a] of the head and what follows it, if that is affine in the numbers of a pixel."""
    if not isinstance(after, nn.Module):
        raise TypeError(f"kernel_head: after is {type(after).__name__}, expected an nn.Module")
    training = after.training
    after = copy.deepcopy(after).double()  # a projection rounded to single precision has full rank
    taps = len(numbers)

    def applied(kernels: Float[Tensor, "n taps h w"]) -> Float[Tensor, "n taps h w"]:
        try:
            found = after(kernels)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"kernel_head: {after} fails on kernels of {taps} numbers: {reason}") from error
        if found.shape != kernels.shape:
            raise ValueError(
                f"kernel_head: {after} turns {taps} numbers at {kernels.shape[2]} x {kernels.shape[3]} pixels into "
                f"shape {tuple(found.shape)}, expected {tuple(kernels.shape)}"
            )
        return found.double()

    units = torch.cat([torch.zeros(1, taps), torch.eye(taps)]).to(numbers)
    columns = applied(units[:, :, None, None])[:, :, 0, 0].T
    offset, matrix = columns[:, :1], columns[:, 1:] - columns[:, :1]
    generator = torch.Generator().manual_seed(0)
    rounding = 1e-4 if head.weight.dtype != torch.float64 else 1e-9
    for scale in (1.0, 10.0):
        # Pixels that differ: what mixes neighbours is affine on a single one.
        probe = scale * torch.randn(2, taps, 5, 4, dtype=torch.float64, generator=generator).to(numbers)
        expected = torch.einsum("ij,njhw->nihw", matrix, probe) + offset[..., None]
        error = (applied(probe) - expected).abs().max()
        if not error <= rounding * expected.abs().max():  # nor if it is no number
            advice = "; where it is affine outside training alone, call .eval() first" if training else ""
            raise TypeError(
                f"kernel_head: {after} is not affine in the numbers of a pixel: kernels behind it are not linear in "
                f"the features, and no fixed number of gates is known for them{advice}"
            )
    mapped = matrix @ numbers
    mapped[:, -1:] += offset
    return mapped
