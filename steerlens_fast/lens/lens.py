"""``SteerableLens``: morphs images along the gradient of a classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from .. import checks, ops
from ..checks import Factors
from ..classifier import Classifier
from ..classifier.class_names import as_class_names
from ..classifier.isolation import warning_stacklevel
from ..classifier.objectives import check_objective
from ..families import FAMILIES, Family, LumaFamily, make_family
from ..morphs import Morphs
from ..pyramid import SteerablePyramid
from ..torch_internals import eager
from .regimes import REGIMES, check_regime
from .run import MorphRun
from .settings import PHOTOGRAPHS
from .smoothing import Smoothing

COLORS = ("rgb", "luma", "grey")
SCORES = ("all", "last", "none")

UNTRACED = "SteerableLens reads gradients and distances on the host; compile the model instead"


class SteerableLens:
    """Morph images toward a class along the gradient of a classifier.

    The gradient is turned into motion, by default of the phases of a complex steerable pyramid. Frames of this motion
    show which changes separate two classes for the classifier.

    Parameters
    ----------
    model : callable
        The classifier: an ``nn.Module``, any callable, or an exported, compiled, scripted or data-parallel model. It
        maps (preprocessed) images [N, C, H, W] to logits [N, classes, ...], or to an object that contains them as
        ``.logits``, as ``["logits"]`` or as its first element. It must return logits, not probabilities, since a
        softmax is applied to them. Its state, training flags included, is not changed.
    bounds : (float, float) or None
        Range of the images, to which frames are clipped. With None images must be finite, and frames are not clipped.
    preprocessing : callable, optional
        Differentiable map from images in ``bounds`` to inputs of ``model``, for example a normalisation. The result is
        cast to the floating-point dtype of the model's parameters, if they have a common one.
    task : {"multiclass", "binary", "multilabel"}
        Meaning of the outputs. "multiclass": one score per class, [N, classes, ...]. "binary": one logit z per image,
        [N] or [N, 1]; class 1 has the probability sigmoid(z). "multilabel": independent logits of L labels, [N, L];
        a target l is a label to make present, ``~l`` one to make absent. For the last two, ``Morphs.outputs`` and a
        custom objective get the scores -z/2 and z/2, [B, F, 2] and [B, F, 2, L], whose softmax over the axis of size 2
        gives the probabilities.
    family : {"csp-phase", "csp-amplitude", "csp-joint", "fourier", "pixel"} or Family
        Coordinates in which the image moves; see :mod:`steerlens_fast.families`.
    rule : {"complex", "polar"}
        How coefficients and gradient become a step; see :func:`steerlens_fast.ops.step`, here with ``eps = 1``. Factors
        multiply this step. With "polar", and in family "pixel", factor b equals one step of ``eps = b``. With "complex"
        it does not: factor b is b times the step, in which phases change by at most pi.
    regime : {"frozen", "persistent", "live"}
        When gradients are computed. "frozen": once, at the source. "persistent": at each step, in coordinates anchored
        at the source (phases change by at most pi, log amplitudes by at most 1). "live": at each step, and the image
        is decomposed again. :meth:`morph` takes the number of ``steps``.
    objective : {"nll", "logit", "margin", "log-probability"} or callable
        What to improve; a callable ``(outputs, target) -> [N]`` is a loss to decrease. Losses are summed over samples.
    color : {"rgb", "luma", "grey"}
        Edit each channel; edit the luma of RGB images and add the change to all channels; or convert images to grey
        first. No effect on images of one channel.
    pyramid : SteerablePyramid or mapping, optional
        The pyramid, or options of :class:`SteerablePyramid` for images of any size, e.g. ``{"synthesis": "adjoint"}``.
    scales, orientations : sequence of int, optional
        Bands that move; by default all.
    phase_cap : float, optional
        Largest phase change, in radians, that one gradient may cause: each sample's step is scaled down to respect it.
        In the frozen regime this holds for all frames together, in the others for each step.
    smoothing : mapping, optional
        Options of SmoothGrad (arXiv 1706.03825), which averages each gradient over noisy copies of the image; None, the
        default, does not. ``noise``: the standard deviation in the units of the images. ``samples`` (8): the number of
        copies, which are not clipped and each cost as much as a plain gradient. ``seed`` (0): of the noise, which is
        the same for all images. ``shift`` (0), ``scale`` (0), ``flip`` (False): copies are also shifted by up to so
        many pixels, resized by up to this share, and mirrored or not, at random.
    class_names : sequence of str or mapping from int to str, optional
        A name for each class, for targets, figures and the representation of ``Morphs``. By default the model's
        attribute ``class_names``, if it has a name for each class.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

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
        smoothing: Mapping | None = None,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
    ):
        self.warn_about_targets = True  # whether a target is already predicted, or its probability falls at the end
        self.classifier = Classifier(model, preprocessing, task)
        self.bounds = checks.check_bounds(bounds)
        self.rule = checks.check_choice("rule", rule, tuple(ops.RULES))
        self.regime = checks.check_choice("regime", regime, REGIMES)
        self.objective = check_objective(objective)
        self.color = checks.check_choice("color", color, COLORS)
        self.phase_cap = None if phase_cap is None else checks.check_number("phase_cap", phase_cap, 0.0, " (radians)")
        self.smoothing = None if smoothing is None else Smoothing.from_options(smoothing)
        self.family, self.pyramid = family, pyramid
        bands = {"scales": scales, "orientations": orientations}
        checked = {n: None if t is None else tuple(checks.check_indices(n, t, None)) for n, t in bands.items()}
        for name, given in checked.items():
            if given == ():
                raise ValueError(f"{name} must contain at least one index, or be None for all, got an empty sequence")
        self.scales, self.orientations = checked["scales"], checked["orientations"]
        self.class_names = None if class_names is None else as_class_names("class_names", class_names)
        self._check_named_family() if isinstance(family, str) else self._check_family_object()
        self._check_pyramid()
        self._last_family: tuple | None = None
        self.default_l2: float | None = None  # of morphs without factors or distances; None: twice the range of bounds

    @classmethod
    def for_photographs(cls, model: Callable, **options: Any) -> SteerableLens:
        """Return a lens with the settings that suited photographs best in a measurement.

        Phases of the luma move along refreshed gradients with the rule "polar", to an L2 distance of 12 unless
        :meth:`morph` is given factors or other distances. Measured in ``lens/photographs.md``.

        Parameters
        ----------
        model : callable
            As in :class:`SteerableLens`.
        **options
            Other arguments of :class:`SteerableLens`; they override these settings.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()
        >>> lens = SteerableLens.for_photographs(model, family="csp-joint")
        >>> lens.family, lens.rule, lens.color, lens.regime, lens.default_l2
        ('csp-joint', 'polar', 'luma', 'persistent', 12.0)
        """
        settings = {**PHOTOGRAPHS, **options}
        max_l2 = settings.pop("max_l2")
        lens = cls(model, **settings)
        lens.default_l2 = max_l2
        return lens

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.settings.items() if v is not None)
        return f"SteerableLens({type(self.classifier.model).__name__}, {settings})"

    @property
    def settings(self) -> dict[str, object]:
        """The settings that determine the frames, as JSON-compatible data."""
        name = lambda value: value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        named = isinstance(self.family, str)
        return {
            "family": self.family if isinstance(self.family, str) else _family_text(self.family),
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
            "smoothing": None if self.smoothing is None else asdict(self.smoothing),
        }

    @eager(UNTRACED)
    def morph(
        self,
        images: Tensor,
        target: int | str | Sequence[Any] | Tensor | None = None,
        *,
        factors: float | Factors | None = None,
        amplitude_factors: float | Factors | None = None,
        max_l2: float | Sequence[float] | Tensor | None = None,
        distances: Sequence[float] | Tensor | None = None,
        frames: int | None = None,
        steps: int | None = None,
        internal_batch_size: int | None = None,
        additional_forward_args: Any = None,
        score: str = "all",
    ) -> Morphs:
        """Morph images toward a target class.

        Parameters
        ----------
        images : Tensor [B, C, H, W]
            Images in ``bounds``. float16 and bfloat16 images are morphed in float32; the model gets their own dtype.
        target : int, sequence, Tensor [B], str or None
            Target class, as in captum: an int for all samples, a list or tensor with one per sample, or tuples for
            outputs with more dimensions. Instead of an int, a name in ``class_names``, or a synonym in one of them. Or
            "runner-up" (default: the second most probable class at the source), "least" or "argmax".
        factors : float, sequence [F], Tensor [F] or [B, F], optional
            Multiples of one step along the gradient, cumulative from the source. A float is the factor of the last of
            ``frames`` frames, to which factors grow linearly from 0. Negative factors move away from the target.
        amplitude_factors : float, sequence [F], Tensor [F] or [B, F], optional
            Multiples of the amplitude step, for family "csp-joint"; by default ``factors``.
        max_l2 : float, sequence [B] or Tensor [B], optional
            L2 distance of the last frame from the source, over all channels and pixels of the clipped image; at
            distance 0 frames are the reconstructed source. If neither ``factors`` nor ``distances`` is given, the
            default is twice the range of ``bounds``, or 12 for a lens made by :meth:`for_photographs`.
        distances : sequence of M floats or Tensor [B, M], optional
            L2 distances of several frames: the result is the source and one frame at each distance. They must increase
            in the regimes "persistent" and "live".
        frames : int, optional
            Number of frames F, including the source; by default 12, or ``steps`` + 1 if that is less. A table of
            factors or ``distances`` determines it.
        steps : int, optional
            Number of gradients in the regimes "persistent" and "live", by default 11 and at least F - 1. Each interval
            between frames takes ceil(steps / (F - 1)) of them. Must be None in the regime "frozen".
        internal_batch_size : int, optional
            Largest number of samples in one call of the model; by default all.
        additional_forward_args : optional
            Further arguments of the model, as in captum: a value or a tuple. Tensors [B, ...] are split like images.
        score : {"all", "last", "none"}
            Frames on which the model is run for ``Morphs.outputs``. Outputs known from gradients are always included;
            with ``smoothing``, these are the source's only.

        Returns
        -------
        Morphs
            ``frames`` [B, F, C, H, W] with the images' device and dtype, and outputs, distances and status: ``OK``, or
            one of :class:`steerlens_fast.morphs.MorphStatus`. A sample without a finite, non-zero gradient is not
            ``ok``, and its frames repeat the source. Nor is one with a gradient too small to reach its distance
            (``GRADIENT_TOO_SMALL``); its frames go as far as factors in the floating-point range do.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid; most are checked before anything is computed.

        Warns
        -----
        UserWarning
            If the model already predicts the target class (``Morphs.already_predicted``; not for target "argmax"), or
            if the last frame has a lower target probability than an earlier one (``Morphs.fell``). On a GPU only with
            ``max_l2`` or ``distances``, since the check waits for the device.

        Notes
        -----
        Losses are summed over samples, so apart from rounding no sample depends on the rest of its batch. Threads run
        the model one at a time. A frame of factor 0 is the reconstructed source (error below 3e-6 for images in
        [0, 1]). A distance is attained if the frame lies within 5e-4 of it, or within a thousandth of it if that is
        less and not 0.

        **Choosing a distance.** Mean probability of the runner-up class and, in parentheses, the number of images
        classified as that class; regime "frozen" except in the last row. 60 test digits of 32 x 32 pixels with the
        demo's network after 3 epochs, ten photographs of scikit-image at 224 x 224 with EfficientNet-Lite0, 2026-11-28:

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

        Useful distances hardly depend on the number of pixels, so the default is 2 at every size. In the frozen regime,
        use 1 to 3 with the rule "complex" and 3 to 8 with "polar"; with refreshed gradients, the probability for
        photographs rises up to L2 8.
        At L2 27.7, an RMS change of 0.071 per value (that of L2 2 for a 28 x 28 image), seven of ten photographs end
        with a lower target probability than they started with.

        **Refreshed gradients.** A step toward distance r from distance d moves by at most 2 sqrt(r^2 - d^2), twice the
        step that reaches r perpendicular to the displacement so far, and changes no phase by more than 1e6 rad. Later
        steps make up for steps that were limited; ``attained`` reports whether the distance was reached. If a gradient
        becomes exactly zero, or is too small to reach the distance, the remaining frames repeat the last one, and
        ``reasons`` names the step. The result depends little on ``frames``. With 2, 3, 5, 8 and 12 frames (11 to 14
        steps), the target probabilities of four photographs at L2 6 differed by at most .004, .10, .006 and .14
        (csp-joint, persistent, polar, EfficientNet-Lite0), those of 60 digits at L2 2.29 by at most .001 (2026-11-28).

        **Batches.** The gradient of a network with ReLUs jumps where a unit switches: when an image moves by an L2 of
        1e-4, EfficientNet-Lite0's gradient changes by 0.2 to 1 %; when it moves by 0.01, by 6 to 20 %. So rounding
        differences between batch sizes, about 1e-6, grow three- to tenfold with each refreshed gradient. After 11 of
        them to L2 6, the same photograph, morphed alone and in a batch of four, ended at an L2 distance of 1 to 5 from
        itself (csp-joint), with target probabilities up to .15 apart; after 4 gradients the differences were at most .4
        (L2) and .005 (probability). With ``internal_batch_size=1`` results are equal bit for bit (pixel and pyramid
        families, CPU, 2026-11-28); in float64 they agree to 1e-13 after 4 gradients.

        **GPU.** Frozen morphs with given factors do not wait for the device, if factors and target are on the host.
        Images on a GPU are not validated up front: one that is not finite, or not in ``bounds``, is not ``ok``.

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
            return run.result(*run.render(), score)

    @eager(UNTRACED)
    def iter_frames(
        self,
        images: Tensor,
        target: int | str | Sequence[Any] | Tensor | None = None,
        *,
        factors: float | Factors | None = None,
        amplitude_factors: float | Factors | None = None,
        max_l2: float | Sequence[float] | Tensor | None = None,
        distances: Sequence[float] | Tensor | None = None,
        frames: int | None = None,
        steps: int | None = None,
        internal_batch_size: int | None = None,
        additional_forward_args: Any = None,
    ) -> Iterator[Tensor]:
        """Yield the frames of :meth:`morph` one by one, [B, C, H, W] each, keeping one of them in memory.

        Arguments, errors and warnings are those of :meth:`morph`, but the frames are not scored.

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
        target: int | str | Sequence[Any] | Tensor | None = None,
        *,
        factor: float | None = None,
        max_l2: float | Sequence[float] | Tensor | None = None,
        steps: int | None = None,
        internal_batch_size: int | None = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """Return the last frame of a morph: captum's ``Perturbation`` protocol.

        Parameters
        ----------
        inputs : Tensor [B, C, H, W]
            The images.
        target : as in :meth:`morph`
            For ``captum.robust.MinParamPerturbation``, pass it in ``attack_kwargs``.
        factor : float, optional
            Multiple of one step along the gradient; 0 returns the reconstructed source.
        max_l2, steps, internal_batch_size, additional_forward_args
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
            factor = checks.check_number("factor", factor)
            if max_l2 is not None:
                raise ValueError(f"factor and max_l2 are mutually exclusive, got {factor} and {max_l2}")
        options = dict(internal_batch_size=internal_batch_size, additional_forward_args=additional_forward_args)
        if factor == 0 and self.regime != "frozen":
            steps = 1  # at factor 0 nothing moves, and further gradients would change nothing
        extent = dict(factors=factor, max_l2=max_l2, frames=2, steps=steps)
        morphs = self.morph(inputs, target, **extent, score="none", **options)
        if not morphs.ok.all():
            reasons = sorted({reason for reason in morphs.reasons if reason})
            text = f"{int((~morphs.ok).sum())} of {len(morphs)} inputs did not reach the requested factor or distance"
            warnings.warn(f"{text}: {'; '.join(reasons)}", UserWarning, stacklevel=warning_stacklevel())
        return morphs.frames[:, -1].contiguous()

    __call__ = perturb  # captum calls a Perturbation

    # --- Checks, and the family of a batch of images ---

    def _check_amplitude_factors(self, amplitude_factors: object) -> None:
        if amplitude_factors is not None and isinstance(self.family, str) and self.family != "csp-joint":
            moves = {"pixel": "pixels", "csp-amplitude": "amplitudes"}.get(self.family, "phases")
            raise ValueError(f"amplitude_factors must be None for family {self.family!r}, which moves only {moves}")

    def _check_named_family(self) -> None:
        checks.check_choice("family", self.family, FAMILIES)
        if self.phase_cap is not None and self.family in ("pixel", "csp-amplitude"):
            moves = f"family {self.family!r}, which moves no phases"
            raise ValueError(f"phase_cap must be None for {moves}, got {self.phase_cap}")

    def _check_family_object(self) -> None:
        assert not isinstance(self.family, str)
        if isinstance(self.family, type):
            raise TypeError(f"family must be an object, got the class {self.family.__name__}: pass an instance")
        if not callable(getattr(self.family, "prepare", None)):
            kinds = f"one of {FAMILIES} or an object with prepare(image, gradient)"
            raise TypeError(f"family must be {kinds}, got {self.family!r}")
        check_regime(self.regime, self.family)
        for name in ("pyramid", "scales", "orientations"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} must be None if family is an object, which has its own")
        if self.rule != "complex":
            raise ValueError(f"rule must be 'complex', the default, if family is an object, got {self.rule!r}")

    def _check_pyramid(self) -> None:
        if isinstance(self.pyramid, Mapping):
            self.pyramid = dict(self.pyramid)
            if "image_shape" in self.pyramid:
                raise ValueError(
                    "pyramid must not contain image_shape; for images of one shape pass a SteerablePyramid"
                )
            checks.check_options("pyramid", self.pyramid, SteerablePyramid, excluded="image_shape")
            SteerablePyramid((1 << 14, 1 << 14), **self.pyramid)  # raises for an invalid option
        elif self.pyramid is not None and not isinstance(self.pyramid, SteerablePyramid):
            kind = type(self.pyramid).__name__
            raise TypeError(f"pyramid must be a SteerablePyramid or a mapping of its options, got {kind}")

    def _family_for(self, images: Tensor) -> Family:
        """Return the edit family of images [B, C, H, W]; the last one is cached for images of the same shape."""
        restriction = self.rule, self.scales, self.orientations, self.pyramid
        key = self.family, self.color, tuple(images.shape[1:]), restriction
        if self._last_family is None or self._last_family[0] != key:
            family = self.family
            if isinstance(family, str):
                restricted = self.scales is not None or self.orientations is not None
                needs_pyramid = family.startswith("csp-") or restricted
                pyramid = self._pyramid_for((images.shape[-2], images.shape[-1])) if needs_pyramid else None
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


def _family_text(family: Family) -> str:
    """Return the repr of a family object, or its class if it has no repr of its own."""
    return type(family).__name__ if type(family).__repr__ is object.__repr__ else repr(family)
