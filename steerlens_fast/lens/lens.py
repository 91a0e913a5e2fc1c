"""``SteerableLens``: from a classifier and images to morphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor

from .. import checks, ops
from ..classifier import Classifier
from ..classifier.isolation import frames_within_the_package
from ..classifier.objectives import check_objective
from ..families import FAMILIES, Family, LumaFamily, make_family
from ..morphs import Morphs
from ..pyramid import SteerablePyramid
from ..torch_internals import eager
from .regimes import REGIMES, check_regime
from .run import MorphRun

COLORS = ("rgb", "luma", "grey")
SCORES = ("all", "last", "none")

UNTRACED = "a lens reads gradients and distances on the host; compile the model instead"


class SteerableLens:
    """Shows what a classifier believes separates two classes: morphs images along its gradient, as motion.

    Parameters
    ----------
    model : callable
        The classifier: an ``nn.Module``, any callable, an exported program, compiled, scripted or data-parallel. Takes
        (preprocessed) images [N, C, H, W], gives logits [N, classes, ...], or an object whose ``.logits``,
        ``["logits"]`` or first element that is. Logits, not probabilities: a softmax is taken of them (a model on the
        CPU that gives probabilities is warned of). Its state is left as it is, training flags included.
    bounds : (float, float) or None
        Range of the images; frames are clipped to it. None: images must be finite, and nothing is clipped.
    preprocessing : callable, optional
        From images in ``bounds`` to what ``model`` takes, differentiable; where normalisation lives. What comes of it
        is cast to the floating-point dtype of the model's parameters, if they have one in common; the gradient comes
        back in the images'.
    task : {"multiclass", "binary", "multilabel"}
        What the outputs are. "multiclass": one score per class, [N, classes, ...]. "binary": one logit z per image,
        [N] or [N, 1], where class 1 has the probability sigmoid(z) and class 0 the rest. "multilabel": a logit for
        each of L labels, [N, L], independent of the others; a target l is a label to be made present, ``~l`` one to be
        made absent. Of the latter two ``Morphs.outputs`` and an objective of your own have the scores -z/2 and z/2 in
        place of z, [B, F, 2] and [B, F, 2, L], whose softmax over the 2 are these probabilities.
    family : {"csp-phase", "csp-amplitude", "csp-joint", "fourier", "pixel"} or Family
        The coordinates in which the gradient is a motion; see :mod:`steerlens_fast.families.registry`.
    rule : {"complex", "polar"}
        How coefficients and gradient become a step; see :func:`steerlens_fast.ops.step`. The step is that of
        ``eps = 1`` (a family that is an object has its own ``eps``), and ``factors`` multiply it. Under "polar", and in
        family "pixel", factor b gives what one step with ``eps = b`` gives. Under "complex" it does not: there it gives
        b times the motion of the step with ``eps = 1``, whose phases are at most pi.
    regime : {"frozen", "persistent", "live"}
        One gradient at the source for all frames; a new one for each step, in coordinates anchored at the source
        (phases by at most pi, log amplitudes by at most 1); a new one for each step, whose image is decomposed anew.
        How many steps is the argument ``steps`` of :meth:`morph`.
    objective : {"nll", "logit", "margin", "log-probability"} or callable
        What of the outputs is to improve; a callable ``(outputs, target) -> [N]`` is a loss to decrease. Summed, never
        averaged, over samples.
    color : {"rgb", "luma", "grey"}
        Edit each channel; or the luma of RGB images, its change added to all channels; or images made grey first. The
        same for images of one channel.
    pyramid : SteerablePyramid or mapping, optional
        The pyramid, or options of :class:`SteerablePyramid` for images of any size, e.g. ``{"synthesis": "adjoint"}``.
    scales, orientations : sequence of int, optional
        Only these bands move.
    phase_cap : float, optional
        Radians. Each sample's step is scaled down so that none of its phases moves further along one gradient: over all
        frames in the frozen regime, at each step in the others.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import SteerableLens
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()
    >>> lens = SteerableLens(model, family="csp-joint", rule="polar")
    >>> morphs = lens.morph(torch.rand(4, 3, 32, 32), target=7, max_l2=2.0, frames=6)
    >>> morphs.frames.shape
    torch.Size([4, 6, 3, 32, 32])
    >>> bool((morphs.l2[:, -1] - 2).abs().max() < 5e-4)
    True
    """

    def __init__(
        self,
        model: Callable,
        *,
        bounds: tuple[float, float] | None = (0, 1),
        preprocessing: Callable | None = None,
        task: str = "multiclass",
        family: str | Family = "csp-phase",
        rule: str = "complex",
        regime: str = "frozen",
        objective: str | Callable[[Tensor, Tensor], Tensor] = "nll",
        color: str = "rgb",
        pyramid: SteerablePyramid | Mapping | None = None,
        scales: Sequence[int] | None = None,
        orientations: Sequence[int] | None = None,
        phase_cap: float | None = None,
    ):
        self.warns = True  # of targets that are predicted already, and of morphs that went too far
        self.classifier = Classifier(model, preprocessing, task)
        self.bounds = checks.check_bounds(bounds)
        self.rule = checks.check_choice("rule", rule, tuple(ops.RULES))
        self.regime = checks.check_choice("regime", regime, REGIMES)
        self.objective = check_objective(objective)
        self.color = checks.check_choice("color", color, COLORS)
        self.phase_cap = None if phase_cap is None else checks.check_number("phase_cap", phase_cap, 0.0, " (radians)")
        self.family, self.pyramid = family, pyramid
        bands = {"scales": scales, "orientations": orientations}
        checked = {n: None if t is None else tuple(checks.check_indices(n, t, None)) for n, t in bands.items()}
        for name, given in checked.items():
            if given == ():
                raise ValueError(f"{name} must name at least one, got none: nothing would move (None means all)")
        self.scales, self.orientations = checked["scales"], checked["orientations"]
        self._check_named_family() if isinstance(family, str) else self._check_family_object()
        self._check_pyramid()
        self._last_family: tuple | None = None

    def __repr__(self) -> str:
        told = ", ".join(f"{k}={v!r}" for k, v in self.settings.items() if v is not None)
        return f"SteerableLens({type(self.classifier.model).__name__}, {told})"

    @property
    def settings(self) -> dict[str, object]:
        """What decides the frames, as plain data."""
        name = lambda value: value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        named = isinstance(self.family, str)
        return {
            "family": self.family if named else _told(self.family),
            "rule": self.rule if named and self.family != "pixel" else None,
            "regime": self.regime,
            "task": self.classifier.task,
            "objective": name(self.objective),
            "color": self.color,
            "bounds": None if self.bounds is None else list(self.bounds),
            "pyramid": None if self.pyramid is None else repr(self.pyramid),
            "scales": None if self.scales is None else list(self.scales),
            "orientations": None if self.orientations is None else list(self.orientations),
            "phase_cap": self.phase_cap,
        }

    @eager(UNTRACED)
    def morph(
        self,
        images: Tensor,
        target=None,
        *,
        factors=None,
        amplitude_factors=None,
        max_l2=None,
        distances=None,
        frames: int | None = None,
        steps: int | None = None,
        internal_batch_size: int | None = None,
        additional_forward_args=None,
        score: str = "all",
    ) -> Morphs:
        """Morph images toward a target class.

        Parameters
        ----------
        images : Tensor [B, C, H, W]
            In ``bounds``. float16 and bfloat16 are computed in float32, and given to the model as they are.
        target : int, sequence, Tensor [B], str or None
            As in captum: an int for all samples, a list or tensor of one per sample, tuples for outputs with more
            dimensions; or "runner-up" (the default: the second class at the source), "least", "argmax".
        factors : float, sequence [F], Tensor [F] or [B, F], optional
            Multiples of the step with eps = 1, cumulative; a float is the last of ``frames`` that grow linearly from 0.
            Negative ones go the other way, along the gradient of the loss: away from the target.
        amplitude_factors : likewise, optional
            Those of the amplitude step, in families that move amplitudes too; by default the same as ``factors``.
        max_l2 : float, sequence [B] or Tensor [B], optional
            L2 distance of the last frame from the source, above 0, over all channels and pixels of the clipped image:
            a float for all samples, anything else has one for each. With none of ``factors``, ``max_l2`` and
            ``distances`` it is twice the range of ``bounds``.
        distances : sequence of M floats or Tensor [B, M], optional
            Several such distances, for all samples or for each: the source, and one frame at each. They must increase
            in the regimes that refresh their gradient.
        frames : int, optional
            F, the source included, 12 by default (or ``steps`` + 1, if that is less). A table of factors, or
            ``distances``, decides it; another number beside them is an error.
        steps : int, optional
            How many gradients the regimes "persistent" and "live" take on the way, 11 by default, apart from how many
            frames are shown: from one frame to the next they take ceil(steps / (F - 1)), in equal shares of the
            distance or of the factors' difference. At least F - 1. Must be None for "frozen", which takes one.
        internal_batch_size : int, optional
            At most so many samples in one call of the model.
        additional_forward_args : optional
            Passed to the model after the images, as in captum: a tuple, or one value; tensors [B, ...] go with the
            samples.
        score : {"all", "last", "none"}
            Which frames the model is run on for ``Morphs.outputs``; what its gradients tell anyway is always there.

        Returns
        -------
        Morphs
            ``frames`` [B, F, C, H, W] on the images' device, in their dtype, and what is known of them. A sample whose
            gradient is zero, infinite or NaN is not ``ok``; its frames repeat the source.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what was expected and what came; before anything is computed where it is known then.

        Warns
        -----
        UserWarning
            Where a target is the class that the model predicts already (``Morphs.already_predicted``; not for
            "argmax", which asks for it), and where a last frame is less probable to be its target than an earlier one
            (``Morphs.fell``). On a GPU only with ``max_l2`` or ``distances``, whose search waits for the device anyway.

        Notes
        -----
        Losses are summed over samples, so that none depends on its batch but by rounding. Threads take turns: one at a
        time runs its model. A frame whose factor is 0 is the source reconstructed (error below 3e-6 on images in
        [0, 1]). A distance is met where the frame lies within 5e-4 of it, or a thousandth of it where that is less.

        **Distances by size.** Mean probability of the runner-up class with one gradient ("frozen"), how many of them
        become the prediction, and (last row) gradients refreshed; 60 test digits of 32 x 32 pixels and the demo's
        network after 3 epochs, ten photographs of scikit-image at 224 x 224 and EfficientNet-Lite0, 2026-11-28:

        ============================ ====== ========= ========= ========= ========= ========= =========
        images, family, rule         source L2 1      2         3         4         8         16
        ============================ ====== ========= ========= ========= ========= ========= =========
        digits, csp-phase, complex   .10    .23 (16)  .39 (32)  .48 (40)  .46 (37)
        digits, csp-joint, polar     .10    .23 (15)  .42 (32)  .59 (44)  .67 (54)
        digits, pixel                .10    .27 (19)  .49 (37)  .67 (51)  .76 (57)
        photos, csp-phase, complex   .12    .63 (8)   .59 (9)   .53 (9)   .48 (7)   .33 (5)   .18 (2)
        photos, csp-joint, polar     .12    .29 (4)   .35 (5)   .37 (6)   .39 (6)   .40 (6)   .37 (6)
        photos, pixel                .12    .61 (9)   .55 (7)   .50 (7)   .48 (7)   .38 (4)   .29 (4)
        photos, joint, persistent    .12    .36 (6)   .49 (8)   .60 (8)   .73 (9)   .87 (10)  .78 (9)
        ============================ ====== ========= ========= ========= ========= ========= =========

        So useful distances hardly grow with the number of pixels, and the default is 2 at every size. With one
        gradient 1 to 3 serve both sizes under the complex rule, and 3 to 8 under the polar one; with refreshed
        gradients photographs gain up to 8. At L2 27.7 (an RMS change of 2/28) seven of ten photographs end below
        their source's probability.

        **Refreshed gradients.** Steps to a distance are bounded: none goes further from the image where it starts than
        twice what a step at a right angle to the way so far would need, 2 sqrt(r^2 - d^2) from distance d to r, and
        none turns a phase by more than 1e6 rad. Where that holds a morph back, later steps catch up; whether it
        arrived is in ``attained``. A gradient that becomes exactly zero ends a morph: its frames repeat the last one,
        and ``reasons`` says at which step. The result depends little on ``frames``: with 2, 3, 5, 8 and 12 of them (11
        to 14 steps) to L2 6 the target probability of four photographs differed by at most .004, .10, .006 and .14
        (csp-joint, persistent, polar, EfficientNet-Lite0), that of 60 digits at L2 2.29 by .001 (2026-11-28).

        **Batches.** A network with ReLUs has a gradient that jumps where a unit switches: moved by an L2 of 1e-4,
        float32 or float64, EfficientNet-Lite0's gradient changes by 0.2 to 1 %, moved by 0.01 by 6 to 20 %. So the
        rounding of its batched kernels, about 1e-6, grows from one refreshed gradient to the next, three- to
        tenfold at each: after 11 of them to L2 6 a photograph alone and the same among four ended 1 to 5 apart
        (csp-joint), with target probabilities up to .15 apart; after 4 of them, up to .4 and .005. With
        ``internal_batch_size=1`` they are equal bit for bit (pixel and pyramid families, CPU, 2026-11-28), and in
        float64 they agree to 1e-13 after 4.

        On a GPU, frozen frames of given factors come without a wait for the device, if factors and target are on the
        host. Images there are not read: one that is not finite, or not in ``bounds``, is not ``ok``.

        Examples
        --------
        >>> import torch
        >>> from steerlens_fast import SteerableLens
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5)).eval()
        >>> morphs = SteerableLens(model).morph(torch.rand(2, 3, 16, 16), [1, 4], factors=[0.0, 1.0, 10.0])
        >>> morphs.outputs.shape, morphs.target.tolist()
        (torch.Size([2, 3, 5]), [1, 4])
        """
        checks.check_choice("score", score, SCORES)
        self._check_amplitude_factors(amplitude_factors)
        schedule = dict(factors=factors, amplitude_factors=amplitude_factors, max_l2=max_l2, distances=distances)
        schedule |= dict(frames=frames, steps=steps)
        with torch.no_grad():
            run = MorphRun(self, images, target, schedule, internal_batch_size, additional_forward_args)
            return run.morph(score)

    @eager(UNTRACED)
    def iter_frames(
        self,
        images: Tensor,
        target=None,
        *,
        factors=None,
        amplitude_factors=None,
        max_l2=None,
        distances=None,
        frames: int | None = None,
        steps: int | None = None,
        internal_batch_size: int | None = None,
        additional_forward_args=None,
    ) -> Iterator[Tensor]:
        """The frames of :meth:`morph` one by one, [B, C, H, W] each, with one of them in memory.

        Examples
        --------
        >>> import torch
        >>> from steerlens_fast import SteerableLens
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5)).eval()
        >>> lens = SteerableLens(model, regime="live")
        >>> for frame in lens.iter_frames(torch.rand(2, 3, 16, 16), 1, factors=10.0, frames=3):
        ...     print(tuple(frame.shape))
        (2, 3, 16, 16)
        (2, 3, 16, 16)
        (2, 3, 16, 16)
        """
        self._check_amplitude_factors(amplitude_factors)
        schedule = dict(factors=factors, amplitude_factors=amplitude_factors, max_l2=max_l2, distances=distances)
        schedule |= dict(frames=frames, steps=steps)
        run = MorphRun(self, images, target, schedule, internal_batch_size, additional_forward_args)
        return torch.no_grad()(run.iterate)()

    def perturb(
        self,
        inputs: Tensor,
        target=None,
        *,
        factor: float | None = None,
        max_l2: float | Sequence[float] | Tensor | None = None,
        steps: int | None = None,
        internal_batch_size: int | None = None,
        additional_forward_args=None,
    ) -> Tensor:
        """The last frame alone: captum's ``Perturbation`` protocol.

        Parameters
        ----------
        inputs : Tensor [B, C, H, W]
            The images.
        target : as in :meth:`morph`
            Give it to ``captum.robust.MinParamPerturbation`` in ``attack_kwargs``.
        factor : float, optional
            How far: a multiple of the step with eps = 1. 0 is nowhere.
        max_l2 : float, sequence [B] or Tensor [B], optional
            How far: a distance, for all samples or for each; the float 0 is nowhere. By default as in :meth:`morph`.
        steps : int, optional
            As in :meth:`morph`.
        internal_batch_size, additional_forward_args
            As in :meth:`morph`.

        Returns
        -------
        Tensor [B, C, H, W]

        Examples
        --------
        >>> import torch
        >>> from steerlens_fast import SteerableLens
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5)).eval()
        >>> images = torch.rand(2, 3, 16, 16)
        >>> SteerableLens(model).perturb(images, 3, factor=5.0).shape
        torch.Size([2, 3, 16, 16])
        """
        if factor is not None:
            checks.check_number("factor", factor)
            if max_l2 is not None:
                raise ValueError(f"factor and max_l2 exclude each other, got {factor} and {max_l2}")
        options = dict(internal_batch_size=internal_batch_size, additional_forward_args=additional_forward_args)
        if not isinstance(max_l2, bool) and isinstance(max_l2, Real) and max_l2 == 0 and factor is None:
            factor, max_l2 = 0.0, None  # where a search for the least distance starts
        if factor == 0 and self.regime != "frozen":
            steps = 1  # the image itself, whatever the gradients are
        how_far = dict(factors=factor, max_l2=max_l2, frames=2, steps=steps)
        morphs = self.morph(inputs, target, **how_far, score="none", **options)
        if not morphs.ok.all():
            reasons = sorted({reason for reason in morphs.reasons if reason})
            text = f"{int((~morphs.ok).sum())} of {len(morphs)} inputs were not followed to the end"
            warnings.warn(f"{text}: {'; '.join(reasons)}", UserWarning, stacklevel=frames_within_the_package())
        return morphs.frames[:, -1].contiguous()

    __call__ = perturb  # as captum's Perturbation has it

    # --- What the family decides, and what the images do ---

    def _check_amplitude_factors(self, amplitude_factors) -> None:
        if amplitude_factors is not None and isinstance(self.family, str) and self.family != "csp-joint":
            raise ValueError(f"amplitude_factors must be None for family {self.family!r}, which has one coordinate")

    def _check_named_family(self) -> None:
        checks.check_choice("family", self.family, FAMILIES)
        if self.phase_cap is not None and self.family in ("pixel", "csp-amplitude"):
            moves = f"family {self.family!r}, which moves no phase"
            raise ValueError(f"phase_cap must be None for {moves}, got {self.phase_cap}")

    def _check_family_object(self) -> None:
        if isinstance(self.family, type):
            raise TypeError(f"family must be an object, got the class {self.family.__name__}: give an instance of it")
        if not callable(getattr(self.family, "prepare", None)):
            kinds = f"one of {FAMILIES} or an object with prepare(image, gradient)"
            raise TypeError(f"family must be {kinds}, got {self.family!r}")
        check_regime(self.regime, self.family)
        for name in ("pyramid", "scales", "orientations"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} must be None where family is an object, which has its own")
        if self.rule != "complex":
            raise ValueError(f"rule must be left alone where family is an object, which has its own, got {self.rule!r}")

    def _check_pyramid(self) -> None:
        if isinstance(self.pyramid, Mapping):
            self.pyramid = dict(self.pyramid)
            if "image_shape" in self.pyramid:
                raise ValueError("pyramid must not have image_shape, which the images decide; give a SteerablePyramid")
            checks.check_options("pyramid", self.pyramid, SteerablePyramid, beside="image_shape")
            SteerablePyramid((1 << 14, 1 << 14), **self.pyramid)  # says what is wrong with an option
        elif self.pyramid is not None and not isinstance(self.pyramid, SteerablePyramid):
            kind = type(self.pyramid).__name__
            raise TypeError(f"pyramid must be a SteerablePyramid or a mapping of its options, got {kind}")

    def family_for(self, images: Tensor) -> Family:
        """Return the edit family of images [B, C, H, W]; the last one is kept for images of the same shape."""
        restriction = self.rule, self.scales, self.orientations, self.pyramid
        key = self.family, self.color, tuple(images.shape[1:]), restriction
        if self._last_family is None or self._last_family[0] != key:
            family = self.family
            if isinstance(family, str):
                restricted = self.scales is not None or self.orientations is not None
                needs_pyramid = family.startswith("csp-") or restricted
                pyramid = self._pyramid_for(tuple(images.shape[-2:])) if needs_pyramid else None
                family = make_family(family, pyramid, self.rule, self.scales, self.orientations)
            family = LumaFamily(family) if self.color != "rgb" and images.shape[1] == 3 else family
            self._last_family = key, family
        return self._last_family[1]

    def _pyramid_for(self, shape: tuple[int, int]) -> SteerablePyramid:
        if isinstance(self.pyramid, SteerablePyramid):
            if self.pyramid.image_shape != shape:
                raise ValueError(f"images must be {self.pyramid.image_shape} pixels like the pyramid, got {shape}")
            return self.pyramid
        return SteerablePyramid(checks.check_image_shape(shape, "images"), **(self.pyramid or {}))


def _told(family: Family) -> str:
    """What settings say of a family object: all of it where it can tell, else its kind."""
    return type(family).__name__ if type(family).__repr__ is object.__repr__ else repr(family)
