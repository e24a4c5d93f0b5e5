"""Dynamic filter networks: a predicted filter, for every pixel or for the image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fastweights.axes import Patches
from fastweights.layer import PredictedWeight
from fastweights.structures import Direct
from fastweights.zoo.defaults import image_predictor, pooled_image_predictor


class DynamicFilter(PredictedWeight):
    """A predicted f x f filter, for every pixel (local) or for the image: `Y[y, x] = sum_uv softmax(K)_uv X[y+u, x+v]`.

    Decomposition: Direct on Patches, with a code per pixel (Eq. 22) or one code an image (Eq. 21); the taps are a
    softmax, and all channels share them.

    Shapes: x (B, 1, H, W), or (B, C, 1, H, W) for C channels that share the filter; the result has the same shape.

    Args:
        kernel_size: f, odd; 9 as published for moving digits.
        local: a filter for every pixel; False: one for the image, the paper's dynamic convolution layer.
        predictor: context to taps before the softmax, (B, f f, H, W) or (B, f f, 1, 1); default 3 x 3 convolution to
            128 channels, ReLU, (pooling,) linear head.
        context_channels: channels of the default predictor's input; default 1.

    Source: Jia et al. 2016, Eq. 1 and 2; Müller 2024, Eq. 22 (which names another paper there).

    >>> DynamicFilter(9)(torch.randn(2, 1, 12, 13)).shape
    torch.Size([2, 1, 12, 13])
    """

    def __init__(
        self,
        kernel_size: int = 9,
        *,
        local: bool = True,
        predictor: nn.Module | None = None,
        context_channels: int = 1,
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f"DynamicFilter: kernel_size is {kernel_size}, expected an odd number of taps")
        if predictor is None:
            build = image_predictor if local else pooled_image_predictor
            predictor = build(context_channels, kernel_size**2)
        predictor = nn.Sequential(predictor, nn.Softmax(dim=1))
        super().__init__(Direct(kernel_size**2, 1), Patches(kernel_size), predictor)


class DynamicFilterNetwork(nn.Module):
    """Predicts the next frame of a video from the last one and a state, by one local filter a pixel.

    The network published for moving digits: `next = DynamicFilter(frame; generator(frame, state))`. Part: `filter`,
    a `DynamicFilter` whose predictor is the last layer of the generator.

    Shapes: frame (B, 1, H, W), H and W even; state (B, 128, H / 2, W / 2), or None for zeros; returns the next frame
    and the next state.

    Args:
        kernel_size: taps of the filter; 9 as published.

    Raises:
        ValueError: a frame of several channels, or of odd height or width.

    Source: Jia et al. 2016, Sec. 4.1, with the sizes (637,361 parameters) and the initialisation of the published code:
    biases zero, weights of variance 1 / fan-in. With torch's third of that, thirteen layers leave next to nothing of
    the frame.

    >>> network, frame = DynamicFilterNetwork(), torch.rand(1, 1, 16, 16)
    >>> following, state = network(frame)
    >>> following, state = network(following, state)
    >>> following.shape, state.shape
    (torch.Size([1, 1, 16, 16]), torch.Size([1, 128, 8, 8]))
    """

    def __init__(self, kernel_size: int = 9):
        super().__init__()
        self.encoder = nn.Sequential(
            *_layer(1, 32), *_layer(32, 32, stride=2), *_layer(32, 64), *_layer(64, 64), *_layer(64, 128)
        )
        self.recurrent = nn.Sequential(*_layer(128, 128), *_layer(128, 128))
        self.decoder = nn.Sequential(
            *_layer(128, 64),
            *_layer(64, 64),
            nn.Upsample(scale_factor=2),
            *_layer(64, 64),
            *_layer(64, 64),
            *_layer(64, 128, 1),
        )
        self.filter = DynamicFilter(kernel_size, predictor=nn.Conv2d(128, kernel_size**2, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)

    def forward(
        self, frame: Float[Tensor, "b 1 h w"], state: Float[Tensor, "b c h2 w2"] | None = None
    ) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b c h2 w2"]]:
        if frame.ndim != 4 or frame.shape[1] != 1:
            raise ValueError(
                f"DynamicFilterNetwork: the frame has shape {tuple(frame.shape)}, expected (B, 1, H, W), one channel"
            )
        if frame.shape[-2] % 2 or frame.shape[-1] % 2:
            raise ValueError(
                f"DynamicFilterNetwork: a frame of {frame.shape[-2]} x {frame.shape[-1]} pixels, expected even sizes"
            )
        hidden = self.encoder(frame)
        state = torch.zeros_like(hidden) if state is None else state
        if state.shape != hidden.shape:
            raise ValueError(
                f"DynamicFilterNetwork: the state has shape {tuple(state.shape)}, expected {tuple(hidden.shape)} for "
                f"a frame {tuple(frame.shape)}"
            )
        state = hidden + self.recurrent(state)
        return self.filter(frame, self.decoder(state)), state


def _layer(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2), nn.LeakyReLU(0.01)]
