"""Batch norm folded into the convolutions: the same network in fewer steps."""

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _WholeLayers(fx.Tracer):
    """Does not look into convolutions and batch norms, whoever made them."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        is_one = isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        return is_one or super().is_leaf_module(module, name)


def fold_batch_norm(network: nn.Module) -> None:
    """Let each convolution do the work of the batch norm that alone reads its output, in place.

    In evaluation mode, in which the network must be, a batch norm multiplies and shifts each map by
    numbers that no longer change, and so can the weights before it (Jacob et al. 2018, §3.2):
    outputs differ by rounding alone. Nothing may be trained or saved of the network afterwards. One
    that cannot be traced, since its way depends on the image, stays as it is.
    """
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
        return
    try:
        graph = _WholeLayers().trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return
    layers = dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        norm = layers.get(node.target)
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
            continue
        before = node.args[0]
        convolution = layers.get(before.target)
        if not isinstance(convolution, nn.Conv2d) or len(before.users) > 1:
            continue
        if calls[node.target] > 1 or calls[before.target] > 1:  # the same layer in several places
            continue
        network.set_submodule(before.target, fuse_conv_bn_eval(convolution, norm))
        # timm's batch norm is also the activation after it
        network.set_submodule(node.target, getattr(norm, "act", nn.Identity()))
