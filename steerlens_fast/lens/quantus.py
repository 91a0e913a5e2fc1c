"""``quantus_explain``, which makes the lens an explanation method for Quantus.

captum needs no such function, because it accepts a :class:`SteerableLens`.
"""

from __future__ import annotations

import numpy as np
import torch

from .. import checks
from ..classifier.targets import has_names
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
    """Return how images change when they are morphed, as an ``explain_func`` of Quantus.

    Parameters
    ----------
    model : callable
        The classifier.
    inputs : array or Tensor [B, C, H, W]
        Inputs of ``model``, normalised or not.
    targets : array or Tensor [B] of int, or sequence [B] of str
        The classes to explain, by number or name.
    factor, max_l2 : float, optional
        Factor or L2 distance of the morph; ``max_l2`` may be a sequence [B]. By default, an L2 distance of twice the
        range of ``bounds``, or of 2 without ``bounds``.
    steps : int, optional
        Number of gradients in the regimes "live" and "persistent", as in :meth:`SteerableLens.morph`.
    signed : bool
        Whether to return the signed change [B, C, H, W] instead of its magnitude summed over channels [B, 1, H, W].
    device : optional
        Device of the computation, by default that of the inputs. Quantus passes it.
    **options
        Options of :class:`SteerableLens`. ``bounds`` is None by default, since inputs may be normalised.

    Returns
    -------
    numpy.ndarray, float32, or float64 if the images are morphed in float64

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
    if device is None:
        device = inputs.device if isinstance(inputs, torch.Tensor) else "cpu"
    images = torch.as_tensor(inputs, device=device, dtype=dtype)
    if factor is None and max_l2 is None:
        low, high = checks.check_bounds(options.get("bounds")) or (0, 1)
        max_l2 = DEFAULT_L2 * (high - low)
    lens = SteerableLens(model, **{"bounds": None, **options})
    targets = targets if has_names(targets) else torch.as_tensor(targets, device="cpu")
    morphed = lens.perturb(images, targets, factor=factor, max_l2=max_l2, steps=steps)
    change = morphed - images.detach()
    change = change if signed else change.abs().sum(1, keepdim=True)
    return change.cpu().to(torch.float64 if change.dtype == torch.float64 else torch.float32).numpy()
