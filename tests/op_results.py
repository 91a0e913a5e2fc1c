"""Outputs of ops in a form that can be compared, and their differentiable arguments."""

import torch
from cases import on_tensors


def as_list(outputs) -> list:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def in_plane(op: str, wide_args: list, outputs) -> list:
    """Replace phases by amplitude * exp(i phase).

    This is continuous where phases jump from pi to -pi.
    """
    outputs = as_list(outputs)
    if op == "polar_split":
        amplitude, phase = outputs
        return [amplitude, torch.polar(wide_args[0].abs().to(phase), phase)]
    if op == "step" and wide_args[3] == 0:  # rule "complex"
        phase, amplitude = outputs
        c, gradient, eps = wide_args[:3]
        return [torch.polar((c - eps * gradient).abs().to(phase), phase), amplitude]
    return outputs


def leaves_of(args: list, op: str) -> tuple[list, list]:
    """Return the arguments with differentiable tensors as leaves of autograd, and these leaves.

    Masks are constants.
    """
    leaves = []

    def leaf(t):
        leaves.append(t.detach().requires_grad_())
        return leaves[-1]

    if "bands" in op:
        return [*on_tensors(leaf, args[:1]), *args[1:]], leaves
    return on_tensors(leaf, args), leaves
