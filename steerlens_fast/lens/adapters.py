"""For other libraries: Quantus' ``explain_func``. (captum takes :class:`SteerableLens` itself, or its ``perturb``.)"""

from __future__ import annotations

import numpy as np
import torch

from .. import checks
from .lens import SteerableLens
from .schedule import DEFAULT_L2


def quantus_explain(
    model,
    inputs,
    targets,
    *,
    factor: float | None = None,
    max_l2: float | None = None,
    steps: int | None = None,
    signed: bool = False,
    device: str | torch.device | None = None,
    **options,
) -> np.ndarray:
    """Quantus' ``explain_func``: where, and how much, images change when they are morphed toward ``targets``.

    Parameters
    ----------
    model : callable
        The classifier.
    inputs : array or Tensor [B, C, H, W]
        What ``model`` takes; normalised or not.
    targets : array or Tensor [B] of int
        The classes to explain.
    factor, max_l2 : float, optional
        How far to morph (a distance for each image: a sequence [B]); by default to an L2
        distance of 2, or 2 times the range of ``bounds`` where these are given.
    steps : int, optional
        Gradients that the regimes that refresh theirs take, as in :meth:`SteerableLens.morph`.
    signed : bool
        The change itself, [B, C, H, W]; else its magnitude summed over the channels, [B, 1, H, W].
    device : optional
        Where to compute, by default where the inputs are; Quantus passes it.
    **options
        Of :class:`SteerableLens`. ``bounds`` is None by default: inputs may be normalised, and metrics perturb them.

    Returns
    -------
    numpy.ndarray, float32, or float64 for a model of that precision

    Raises
    ------
    TypeError, ValueError
        As :class:`SteerableLens`.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from steerlens_fast import quantus_explain
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5)).eval()
    >>> images = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    >>> quantus_explain(model, images, np.array([1, 4]), family="csp-joint").shape
    (2, 1, 16, 16)

    With a metric of Quantus::

        metric(model, x_batch, y_batch, explain_func=quantus_explain, explain_func_kwargs={"max_l2": 2.0})
    """
    checks.check_bool("signed", signed)
    parameter = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else None
    here = inputs.device if isinstance(inputs, torch.Tensor) else "cpu"
    images = torch.as_tensor(inputs, device=here if device is None else device, dtype=dtype)
    if factor is None and max_l2 is None:
        low, high = checks.check_bounds(options.get("bounds")) or (0, 1)
        max_l2 = DEFAULT_L2 * (high - low)
    lens = SteerableLens(model, **{"bounds": None, **options})
    morphed = lens.perturb(images, torch.as_tensor(targets, device="cpu"), factor=factor, max_l2=max_l2, steps=steps)
    change = morphed - images.detach()
    change = change if signed else change.abs().sum(1, keepdim=True)
    return change.cpu().to(torch.float64 if change.dtype == torch.float64 else torch.float32).numpy()
