"""What the literature says of published layers: counts of parameters, and what sets each apart."""

import oracles
import pytest
import sequence_oracles
import torch
from torch import nn

from fastweights import PredictedWeight, zoo
from fastweights.axes import Channels, Patches, Sequence
from fastweights.codes import Sliced
from fastweights.cost import measure
from fastweights.structures import Direct, Gated, Mixture, Outer, softmax


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_squeeze_excitation_adds_to_resnet50_what_the_paper_says():
    blocks = {256: 3, 512: 4, 1024: 6, 2048: 3}  # output channels of ResNet-50's bottlenecks, and their number
    assert sum(blocks[c] * count(zoo.SqueezeExcitation(c)) for c in blocks) == 2_514_944


def test_squeeze_excitation_then_a_convolution_is_one_predicted_kernel():
    """Eq. 25, 26: scaling the channels and convolving is convolving with g_i W_ij."""
    layer, fixed = zoo.SqueezeExcitation(6, 2).double(), nn.Conv2d(6, 4, 3, padding=1, bias=False).double()
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64)
    gates = layer.code(x)
    effective = torch.einsum("bi,jiuv->bjiuv", gates, fixed.weight)
    expected = torch.stack([nn.functional.conv2d(image, w, padding=1) for image, w in zip(x, effective, strict=True)])
    torch.testing.assert_close(fixed(layer(x)), expected)


def test_gating_alone_holds_diagonal_weights_only():
    for layer in (zoo.Gating(4), zoo.SqueezeExcitation(4, 2), zoo.FiLM(4, 3)):
        assert isinstance(layer.structure, Gated)
        weight = layer.structure.materialize(torch.randn(2, 4))
        torch.testing.assert_close(weight, torch.diag_embed(weight.diagonal(dim1=-2, dim2=-1)))


def test_no_fixed_layer_stands_between_the_forget_gates_of_an_lstm():
    cell, x, h, c = nn.LSTMCell(3, 4), *(torch.randn(size) for size in (3, 4, 4))
    carried = torch.autograd.functional.jacobian(lambda c: cell(x, (h, c))[1], c)
    gates = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).sigmoid()
    torch.testing.assert_close(carried, gates[4:8].diag())


def test_film_starts_near_the_identity_and_reads_scale_then_shift():
    layer = zoo.FiLM(3, 2)
    nn.init.zeros_(layer.predictor.weight)
    with torch.no_grad():
        layer.predictor.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]))
    y = layer(torch.ones(1, 3, 2, 2), torch.zeros(1, 2))
    assert y[0, :, 0, 0].tolist() == [11.0, 22.0, 33.0]


def test_cond_conv_of_one_constant_expert_is_its_convolution():
    layer = zoo.CondConv(3, 5, 3, experts=1, stride=2, predictor=_Ones(1))
    assert isinstance(layer.structure, Mixture)
    x = torch.randn(2, 3, 8, 9)
    expected = nn.functional.conv2d(x, layer.structure.templates[0].unflatten(-1, (3, 3, 3)), stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_basis_prediction_weights_are_averages_of_averages():
    """Softmax over the basis and over each kernel's taps: every predicted kernel sums to one."""
    layer, x = zoo.BasisPrediction(2, 3, 4), torch.randn(1, 2, 5, 6)
    weight = layer.weight(x)
    assert weight.shape == (1, 5, 6, 1, 18)
    torch.testing.assert_close(weight.sum(-1), torch.ones(1, 5, 6, 1))
    assert torch.linalg.matrix_rank(weight.flatten(0, 3).double(), rtol=1e-5) <= 4


def test_nafnet_of_these_blocks_has_the_published_number_of_parameters():
    """SIDD: blocks 2, 2, 4, 8 down, 12 in the middle, 2, 2, 2, 2 up; width 32 and 64."""
    for width, published in ((32, 29_159_715), (64, 115_982_915)):
        sizes = [width * 2**n for n in range(5)]
        down, middle, up = (2, 2, 4, 8), 12, (2, 2, 2, 2)
        blocks = {c: count(zoo.NAFBlock(c)) for c in sizes}
        total = sum((d + u) * blocks[c] for d, u, c in zip(down, reversed(up), sizes, strict=False))
        total += middle * blocks[sizes[-1]]
        total += count(nn.Conv2d(3, width, 3), nn.Conv2d(width, 3, 3))
        for c in sizes[:-1]:
            total += count(nn.Conv2d(c, 2 * c, 2, stride=2), nn.Conv2d(2 * c, 4 * c, 1, bias=False))
        assert total == published


def test_naf_block_starts_as_the_identity():
    x = torch.randn(1, 4, 5, 6)
    assert torch.equal(zoo.NAFBlock(4)(x), x)


def test_a_simple_gate_between_convolutions_is_a_gated_kernel_prediction():
    """Sec. 5: NAFNet's gate with the fixed layers around it predicts a kernel a pixel, of rank at most its channels."""
    block, x = zoo.NAFBlock(3).double(), torch.randn(2, 3, 5, 6, dtype=torch.float64)
    for conv in (block.conv1, block.conv2):  # a bias of the gated half adds a constant beside the product
        nn.init.zeros_(conv.bias)
    wide = block.conv2(block.conv1(x))
    expected = nn.functional.conv2d(block.gate1(wide), block.conv3.weight)
    v = torch.einsum("ki,kuv->kiuv", block.conv1.weight[:3, :, 0, 0], block.conv2.weight[:3, 0]).flatten(1)
    layer = PredictedWeight(Gated(block.conv3.weight[:, :, 0, 0], v), Patches(3), nn.Identity())
    torch.testing.assert_close(layer(x, wide[:, 3:]), expected)
    kernels = layer.weight(wide[:, 3:]).flatten(1, 2)
    assert (torch.linalg.matrix_rank(kernels.flatten(-2)) <= 3).all()  # one space of 3 kernels for all pixels


def test_spatial_gating_unit_starts_as_its_first_half():
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(zoo.SpatialGatingUnit(6, 5)(x), x[..., :3], rtol=1e-3, atol=1e-4)


def test_modulated_siren_keeps_the_scale_of_its_activations():
    torch.manual_seed(0)
    siren = zoo.ModulatedSiren(2, 3)
    assert siren.linears[0].weight.abs().max() <= 1 / 2
    assert siren.linears[1].weight.abs().max() <= (6 / 256) ** 0.5 / 30


def test_the_dynamic_filter_network_for_moving_digits_has_the_published_number_of_parameters():
    assert count(zoo.DynamicFilterNetwork()) == 637_361


def test_the_dynamic_filter_network_starts_as_the_published_one():
    """Lasagne's HeUniform and biases of zero; so a frame is still seen by the last of the layers."""
    torch.manual_seed(0)
    network = zoo.DynamicFilterNetwork()
    for conv in (layer for layer in network.modules() if isinstance(layer, nn.Conv2d)):
        assert conv.weight.std().item() == pytest.approx(conv.weight[0].numel() ** -0.5, rel=0.15)
        assert (conv.bias == 0).all()
    frames = torch.rand(4, 1, 16, 16)
    before_softmax = network.filter.predictor[0](network.decoder(network.encoder(frames)))
    assert before_softmax.std(0).mean() > 1e-3


def test_dynamic_filters_are_averages():
    for local in (True, False):
        layer, x = zoo.DynamicFilter(3, local=local), torch.randn(2, 1, 5, 6)
        weight = layer.weight(x)
        assert weight.shape[1:3] == ((5, 6) if local else (1, 1))
        assert (weight > 0).all()
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:-1]))


def test_separable_kernels_have_rank_one_and_few_numbers():
    layer, x = zoo.SeparableConvolution(2, 5), torch.randn(1, 2, 6, 7)
    code = layer.code(x)
    assert code.vertical.shape[1] + code.horizontal.shape[1] == 4 * 5
    kernels = layer.weight(x).detach().unflatten(-1, (2, 5, 5)).double()
    assert (torch.linalg.matrix_rank(kernels, rtol=1e-5) == 1).all()


def test_coda_network_for_cifar10_has_the_published_number_of_parameters():
    assert count(zoo.CoDANetwork()) == 7_782_816
    fewer = zoo.CoDANetwork(ranks=(8, 8, 16, 16, 16, 16, 16, 16, 16))
    assert count(fewer) == 2_034_960


def test_the_whole_published_network_is_linear_for_each_image():
    network = zoo.CoDANetwork(temperature=1e-6).double()  # of 10 classes; what small weights give is lifted above zero
    x = zoo.with_inverse(torch.rand(1, 3, 8, 9, dtype=torch.float64))
    y = network(x) - network.bias
    assert y.abs().min() > 1e-2
    torch.testing.assert_close(torch.einsum("bjihw,bihw->bj", network.linear_map(x), x), y, rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", ["squash", "l2"])
def test_coda_network_is_its_linear_map_and_the_product_of_its_layers(norm):
    """For each image the network is one matrix: found by going back from the classes, and by multiplying all layers."""
    network = zoo.CoDANetwork(4, (3, 5, 2), (2, 3, 2), (3, 3, 1), (1, 2, 1), norm=norm, temperature=3.0).double()
    x = zoo.with_inverse(torch.rand(2, 2, 4, 5, dtype=torch.float64))
    maps = network.linear_map(x)
    torch.testing.assert_close(torch.einsum("bjihw,bihw->bj", maps, x) + network.bias, network(x))
    activation, numbers = x, x[0].numel()
    product = torch.eye(numbers, dtype=torch.float64).unflatten(0, x.shape[1:]).expand(2, -1, -1, -1, -1)
    for layer in network.layers:
        code = layer.code(activation)
        product = torch.stack([layer.product(code, image) for image in product.unbind(-1)], -1)
        activation = layer.product(code, activation)
    expected = (product.sum((2, 3)) / network.temperature).unflatten(-1, x.shape[1:])
    torch.testing.assert_close(maps, expected)
    # Linear for each image, not in the image.
    assert not torch.allclose(network.linear_map(0.5 * x), maps, rtol=1e-3)


def test_dynamic_alignment_units_stay_below_the_norm_of_their_patch():
    for norm in ("squash", "l2"):
        layer, x = zoo.DynamicAlignmentUnits(2, 3, 3, 2, norm=norm).double(), torch.randn(1, 2, 5, 4).double()
        size = layer.weight(10 * x).norm(dim=-1)
        assert (size < 1).all() if norm == "squash" else torch.allclose(size, torch.ones_like(size))
        zero = layer.predictor[-1](torch.zeros(1, 54, 1, 1))
        assert torch.equal(zero, torch.zeros_like(zero))


def test_hdrnet_has_the_published_number_of_parameters_and_starts_at_the_luminance():
    layer = zoo.HDRNet()
    assert count(layer.predictor.coefficients) == 481_968
    image = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(layer.predictor.guide(image), image.mean(1))
    code = layer.code(image)
    assert code.grid.shape == (1, 8, 12, 16, 16)
    assert layer.weight(image).shape == (1, 6, 5, 3, 3)


def test_hdrnet_reads_the_bin_of_its_guide():
    grid = torch.zeros(1, 2, 12, 1, 1)
    grid[:, 0, 9:], grid[:, 1, 9:] = 10.0, 20.0  # the bias of the dark and of the bright bin
    guide = torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0]]])
    layer = zoo.HDRNet(predictor=nn.Identity())
    y = layer.product(Sliced(grid, guide), torch.rand(1, 3, 1, 5))
    torch.testing.assert_close(y[0, 0, 0], torch.tensor([10.0, 10.0, 15.0, 20.0, 20.0]))


def test_hdrnet_takes_its_own_small_image():
    layer, image = zoo.HDRNet(8, 4, 2), torch.rand(2, 3, 9, 7)
    small = nn.functional.interpolate(image, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(layer(image, (small, image)), layer(image))


def test_decomposable_attention_of_a_pair_of_sequences():
    layer = zoo.DecomposableAttention(4, 3).double()
    a, b = torch.randn(2, 5, 4, dtype=torch.float64), torch.randn(2, 6, 4, dtype=torch.float64)
    layers = [m for m in layer.predictor.network if isinstance(m, nn.Linear)]
    expected = torch.stack([sequence_oracles.decomposable_attention(layers, *one) for one in zip(a, b, strict=True)])
    torch.testing.assert_close(layer(b, (a, b)), expected)
    assert layer.operation(layer.code((a, b)), b) == "scaled dot-product attention"


def test_the_model_around_decomposable_attention_has_the_published_size():
    """SNLI: 300 -> 200 without bias, F, then G and H of two layers, three classes: 382 thousand."""
    compare, aggregate = ([nn.Linear(400, 200), nn.Linear(200, 200)] for _ in range(2))
    around = [nn.Linear(300, 200, bias=False), *compare, *aggregate, nn.Linear(200, 3)]
    assert round(count(zoo.DecomposableAttention(200), *around), -3) == 382_000


def test_heads_of_eq_20_on_the_input_itself():
    """Without linear maps around it, output channel i + h n_i is channel i of head h."""
    predictor = zoo.MultiHeadAttention(6, 3).attention.predictor.double()
    part = PredictedWeight(Outer(2, softmax), Sequence(), predictor)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    y = part(x.unsqueeze(1).expand(-1, 3, -1, -1), x).transpose(1, 2).flatten(2)
    p, q = predictor(x)
    for h, b in ((0, 0), (2, 1)):
        expected = oracles.attention(p[b, h].view(5, 2), q[b, h].view(5, 2), x[b], softmax=True)
        torch.testing.assert_close(y[b, :, h * 6 : (h + 1) * 6], expected)


def test_a_softmax_raises_the_rank_of_an_outer_product():
    """Eq. 18: at most r without it, more with it."""
    code = (torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64))
    assert torch.linalg.matrix_rank(Outer(1).materialize(code)) == 1
    assert torch.linalg.matrix_rank(Outer(1, softmax).materialize(code)) > 1


def test_attention_mixes_positions_and_a_hypernetwork_layer_channels():
    """Eq. 17 against Eq. 1: the same predicted matrix along the sequence, and along the channels."""
    matrix, x = torch.randn(2, 4, 4), torch.randn(2, 4, 4)
    along, across = (PredictedWeight(Direct(4, 4), axes, nn.Identity()) for axes in (Sequence(), Channels()))
    torch.testing.assert_close(along(x, matrix.flatten(1)), matrix @ x)
    torch.testing.assert_close(across(x, matrix.flatten(1)), (matrix @ x.mT).mT)


def test_attention_without_its_scores_holds_no_matrix_of_positions():
    layer, x = zoo.DecomposableAttention(4, 3), torch.randn(1, 300, 4)
    assert measure(layer, x).largest_bytes < 300 * 300 * 4


def test_static_hypernetworks_have_the_published_numbers_of_parameters():
    assert count(zoo.HyperHead(16, 16, 7, embedding=4, hidden=4)) == 4_240  # MNIST, in place of 12,544
    assert count(zoo.HyperHead(16, 16, 3)) == 75_920  # a wide residual network's unit
    head = zoo.HyperHead(16, 16, 3)
    layers = nn.ModuleList([zoo.StaticHyperConv2d(16, 32, head=head), zoo.StaticHyperConv2d(32, 32, head=head)])
    assert count(layers) == 75_920 + (2 + 4) * 64


def test_static_kernels_start_at_the_scale_of_a_convolution():
    torch.manual_seed(0)
    ours = zoo.StaticHyperConv2d(64, 64).tiles.kernel().std()
    plain = nn.Conv2d(64, 64, 3).weight.std()
    assert 0.5 < ours / plain < 5


def test_hyper_lstm_counts():
    n, i, s, e = 20, 10, 16, 4
    main = 4 * n * (i + n) + 4 * n + 5 * 2 * n
    small = 4 * s * (i + n + s) + 5 * 2 * s
    scales = 2 * (4 * e * (s + 1) + 4 * n * e) + (4 * e * s + 4 * n * e)
    assert count(zoo.HyperLSTMCell(i, n, s, e)) == main + small + scales


def test_more_experts_cost_nothing_at_a_pixel():
    """Sec. 1: parameters grow with the number of experts, multiply-adds at every pixel do not."""
    few, many = (zoo.CondConv(4, 5, 3, experts) for experts in (2, 8))
    assert count(many.structure) == 4 * count(few.structure)
    images = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 32, 48)
    small, large = ([measure(layer, image).multiply_adds for layer in (few, many)] for image in images)
    assert small[1] - small[0] == large[1] - large[0]  # mixing the kernel, once an image
    assert large[1] - small[1] == 5 * 4 * 9 * (32 * 48 - 16 * 16)


class _Ones(nn.Module):
    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def forward(self, context):
        return context.new_ones(len(context), self.numbers)
