"""Calls of any module with the weights of many contexts: by torch.func.vmap, or one after the other in a loop.

Both compute what the loop computes. Weights are (B, *shape) by name, and every input has an axis of B groups in front
of what the module takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils._pytree import tree_map, tree_map_only


def as_inputs(x: Any) -> tuple[Tensor, ...]:
    """x as a tuple; raises TypeError for anything but tensors."""
    inputs = x if isinstance(x, tuple) else (x,)
    for one in inputs:
        if not isinstance(one, Tensor):
            raise TypeError(
                f"HyperNetwork: x is or holds a {type(one).__name__}, expected a tensor or a tuple of tensors; give "
                "other arguments in a module around the primary whose forward takes tensors only"
            )
    return inputs


def check_batch(contexts: int, inputs: tuple[Any, ...], grouped: bool) -> None:
    """Raises ValueError for no contexts, or inputs that are not one a context."""
    if contexts == 0:
        raise ValueError("HyperNetwork: a batch of 0 contexts, expected at least one")
    for x in inputs:
        if x.ndim == 0 or x.shape[0] != contexts:
            what = "groups" if grouped else "samples"
            raise ValueError(
                f"HyperNetwork: {contexts} contexts for x of shape {tuple(x.shape)}, expected {contexts} "
                f"{what} on axis 0; for one context for all of x give it without a batch axis"
            )


def one_sample(y: Any) -> Any:
    """(B, 1, ...) -> (B, ...) in all tensors of a result; raises ValueError for another number of samples."""
    return tree_map_only(Tensor, _one_sample, y)


def _one_sample(leaf: Tensor) -> Tensor:
    if leaf.ndim < 2 or leaf.shape[1] != 1:
        raise ValueError(
            f"HyperNetwork: with a context a sample the primary gave {tuple(leaf.shape[1:])}, expected one sample on "
            "axis 0; where samples lie on another axis pass grouped=True and for each context an x that g takes"
        )
    return leaf.squeeze(1)


def needs_loop(primary: nn.Module) -> bool:
    """Whether a layer inside refuses torch.func.vmap: recurrent ones, and norms that update what they keep."""
    for module in primary.modules():
        keeps = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        updates = module.training and (keeps or isinstance(module, _SpectralNorm))
        if updates or isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.SyncBatchNorm):
            return True
    return False


def by_vmap(primary: nn.Module, weights: Mapping[str, Tensor], inputs: tuple[Any, ...]) -> Any:
    """torch.func.vmap over the contexts; every context draws its own random numbers (dropout)."""

    def one(weights: dict[str, Tensor], inputs: tuple[Any, ...]) -> Any:
        return _call(primary, weights, inputs)

    try:
        with _attention_without_fast_path(primary):
            y = torch.vmap(one, randomness="different")(dict(weights), inputs)
    except RuntimeError as error:
        error.add_note(
            f"HyperNetwork ran {type(primary).__name__} by torch.vmap; where vmap refuses what it does (a buffer "
            "changed in place, .item(), a branch on values) pass route='loop'"
        )
        raise
    return _with_none(y)


@contextmanager
def _attention_without_fast_path(primary: nn.Module) -> Iterator[None]:
    """In eval torch's attention layers take a way without derivatives where they see none asked, as inside vmap."""
    attention = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
    if not any(isinstance(module, attention) and not module.training for module in primary.modules()):
        yield
        return
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _call(primary: nn.Module, weights: dict[str, Tensor], inputs: tuple[Any, ...]) -> Any:
    """A call with other weights; an empty tuple stands for None, which is no result of vmap (see `_with_none`)."""
    return tree_map(_result, functional_call(primary, weights, inputs, tie_weights=False))


def _result(leaf: Any) -> Any:
    if leaf is None:
        return ()
    if not isinstance(leaf, Tensor):
        raise TypeError(
            f"HyperNetwork: the primary gave a {type(leaf).__name__}, expected tensors or None, in tuples, lists or "
            "dicts"
        )
    return leaf


def _with_none(y: Any) -> Any:
    def empty(node: Any) -> bool:
        return isinstance(node, tuple) and len(node) == 0

    return tree_map(lambda leaf: None if empty(leaf) else leaf, y, is_leaf=empty)


def by_loop(primary: nn.Module, weights: Mapping[str, Tensor], inputs: tuple[Any, ...]) -> Any:
    """One call a context, one after the other."""
    # unbind: an index in a loop would make a zero gradient of full size each time.
    rows = zip(*(weight.unbind() for weight in weights.values()), strict=True)
    calls = zip(rows, zip(*(x.unbind() for x in inputs), strict=True), strict=True)
    hooks = [
        module.register_forward_pre_hook(_refresh) for module in primary.modules() if isinstance(module, nn.RNNBase)
    ]
    try:
        results = [_call(primary, dict(zip(weights, row, strict=True)), args) for row, args in calls]
    finally:
        for hook in hooks:
            hook.remove()
        refresh_recurrent(primary)
    return _with_none(tree_map(lambda *leaves: torch.stack(leaves), *results))


def refresh_recurrent(primary: nn.Module) -> None:
    """Recurrent layers keep a list of their weights of their own; it must follow what is there now."""
    for module in primary.modules():
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()


def _refresh(module: nn.Module, args: Any) -> None:
    refresh_recurrent(module)
