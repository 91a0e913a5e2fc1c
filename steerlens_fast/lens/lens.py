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

    A family of coordinates turns the gradient into a motion of the image. By default, the motion changes the phases of
    a complex steerable pyramid. The frames of a motion show which changes the classifier takes for the other class.

    Parameters
    ----------
    model : callable
        The classifier: an ``nn.Module``, any callable, or an exported, compiled, scripted or data-parallel model. It
        maps (preprocessed) images [N, C, H, W] to logits [N, classes, ...]. It may also return an object that contains
        the logits as ``.logits``, as ``["logits"]`` or as its first element. Probabilities would be wrong, since a
        softmax is applied to the output. The model's state, including training flags, is not changed.
    bounds : (float, float) or None
        Range of the images; frames are clipped to it. With None, any finite images are accepted, and frames are not
        clipped.
    preprocessing : callable, optional
        Differentiable map from images in ``bounds`` to inputs of ``model``, for example a normalisation. If all
        parameters of the model have one floating-point dtype, the inputs are cast to it.
    task : {"multiclass", "binary", "multilabel"}
        Meaning of the outputs. "multiclass": one score per class, [N, classes, ...]. "binary": one logit z per image,
        [N] or [N, 1]; class 1 has the probability sigmoid(z). "multilabel": independent logits z of L labels, [N, L];
        target l makes label l present, and target ``~l`` makes it absent. With "binary" and "multilabel", each logit z
        is replaced by the two scores -z/2 and z/2, whose softmax gives the probabilities. ``Morphs.outputs`` then is
        [B, F, 2] or [B, F, 2, L], and a custom objective gets [N, 2] or [N, 2, L].
    family : {"csp-phase", "csp-amplitude", "csp-joint", "fourier", "pixel"} or Family
        Coordinates in which the image moves; see :mod:`steerlens_fast.families`.
    rule : {"complex", "polar"}
        How coefficients and gradient become a step. The step is that of :func:`steerlens_fast.ops.step` with
        ``eps = 1``, and a frame's factor b multiplies it. With "polar", and in family "pixel", the result equals a step
        of ``eps = b``. With "complex" it does not: a step of any ``eps`` changes phases by at most pi, and b multiplies
        this change.
    regime : {"frozen", "persistent", "live"}
        When gradients are computed. "frozen": once, at the source. "persistent": at each step, in coordinates relative
        to the source's decomposition (phases change by at most pi and log amplitudes by at most 1 in total). "live": at
        each step, in coordinates of the current image. The number of ``steps`` is an argument of :meth:`morph`.
    objective : {"nll", "logit", "margin", "log-probability"} or callable
        What the motion improves. A callable ``(outputs, target) -> [N]`` is a loss, which the motion decreases.
    color : {"rgb", "luma", "grey"}
        "rgb": each channel moves. "luma": the luma of RGB images moves, and its change is added to all channels.
        "grey": images are converted to grey first. No effect on images of one channel.
    pyramid : SteerablePyramid or mapping, optional
        The pyramid, or options of :class:`SteerablePyramid` for images of any size, e.g. ``{"synthesis": "adjoint"}``.
    scales, orientations : sequence of int, optional
        Bands that move; by default all.
    phase_cap : float, optional
        Largest phase change, in radians, along one gradient. The factors of each sample are scaled down so that no
        phase exceeds it: in the frozen regime the factors of all frames, in the other regimes those of each step.
    smoothing : mapping, optional
        Options of SmoothGrad (arXiv 1706.03825), which averages each gradient over noisy copies of the image; by
        default gradients are not averaged. ``noise``: standard deviation of the noise, in the units of the images.
        ``samples`` (8): number of copies; each costs as much as a plain gradient. ``seed`` (0): seed of the noise,
        which is the same for all images. ``shift`` (0): largest random shift of a copy in pixels. ``scale`` (0):
        largest random change of its size, as a share. ``flip`` (False): whether copies are mirrored at random.
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
        self.warn_about_targets = True  # if a target is already predicted, or its probability falls at the end
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
        self.default_l2: float | None = None  # of morphs without factors or distances; None for twice the range

    @classmethod
    def for_photographs(cls, model: Callable, **options: Any) -> SteerableLens:
        """Return a lens with the settings that suited photographs best in a measurement.

        Phases of the luma move with the rule "polar" and the regime "persistent". Without factors or distances,
        :meth:`morph` ends at an L2 distance of 12. ``lens/photographs.md`` describes the measurement.

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
            Images in ``bounds``. float16 and bfloat16 images are morphed in float32, but are passed to the model in
            their own dtype.
        target : int, sequence, Tensor [B], str or None
            Target class, as in captum: an int for all samples, a list or tensor of one int per sample, or a tuple of
            ints for outputs with more dimensions. A name in ``class_names``, or a synonym in such a name, can replace
            an int. "runner-up" (the default) is the second most probable class at the source, "least" the least
            probable and "argmax" the most probable class.
        factors : float, sequence [F], Tensor [F] or [B, F], optional
            The factor of each frame: the multiple of one step along the gradient, counted from the source. A float is
            the factor of the last frame; the factors of ``frames`` frames grow linearly from 0 to it. Negative factors
            move away from the target.
        amplitude_factors : float, sequence [F], Tensor [F] or [B, F], optional
            Multiples of the amplitude step, for family "csp-joint"; by default ``factors``.
        max_l2 : float, sequence [B] or Tensor [B], optional
            L2 distance of the last frame from the source, over all channels and pixels of the clipped image. At
            distance 0, frames are the reconstructed source. If neither ``factors`` nor ``distances`` is given, the
            default is twice the range of ``bounds``, or 12 for a lens made by :meth:`for_photographs`.
        distances : sequence of M floats or Tensor [B, M], optional
            L2 distances of several frames. The result is the source, and one frame at each distance. In the regimes
            "persistent" and "live", distances must increase.
        frames : int, optional
            Number of frames F, including the source; by default 12 or ``steps`` + 1, whichever is less. With several
            ``factors``, F is their number; with M ``distances``, it is M + 1.
        steps : int, optional
            Number of gradients in the regimes "persistent" and "live"; at least F - 1, and 11 by default. Each
            interval between frames takes ceil(steps / (F - 1)) gradients. Must be None in the regime "frozen".
        internal_batch_size : int, optional
            Largest number of samples in one call of the model; by default all.
        additional_forward_args : optional
            Further arguments of the model, as in captum: a value or a tuple. Tensors [B, ...] are split like images.
        score : {"all", "last", "none"}
            Frames on which the model is run for ``Morphs.outputs``. The outputs of frames at which a gradient was
            computed are always included; with ``smoothing``, only those of the source.

        Returns
        -------
        Morphs
            ``frames`` [B, F, C, H, W] with the images' device and dtype, outputs, distances, and the status of each
            sample (:class:`steerlens_fast.morphs.MorphStatus`). If the gradient at the source is zero or not finite,
            the sample is not ``ok``, and its frames repeat the source. If the gradient is too small to reach the
            distance, the sample is not ``ok`` either (``GRADIENT_TOO_SMALL``); its frames go as far as factors in the
            floating-point range allow.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid. Most arguments are checked before anything is computed.

        Warns
        -----
        UserWarning
            If the model already predicts the target class (``Morphs.already_predicted``; not for target "argmax"), or
            if the last frame has a lower target probability than an earlier frame (``Morphs.fell``). Both checks wait
            for the device, so on a GPU they are made only with ``max_l2`` or ``distances``.

        Notes
        -----
        The loss of a batch is the sum over its samples, so except for rounding no sample depends on the others. If
        several threads morph, only one at a time runs the model. A frame of factor 0 is the reconstructed source, with
        errors below 3e-6 for images in [0, 1]. A distance is attained if the error of the frame's distance is at most
        5e-4, and at most a thousandth of the distance. (For distance 0, only the first of these applies.)

        **Choosing a distance.** The table contains the mean probability of the target, which is the runner-up class,
        and in parentheses the number of images classified as the target. Digits: 60 test images of 32 x 32 pixels, with
        the demo's network after 3 epochs. Photos: ten photographs of scikit-image at 224 x 224 pixels, with
        EfficientNet-Lite0. The regime is "frozen", and "persistent" in the last row (csp-joint, polar; 2026-11-28).

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

        Useful distances hardly depend on the number of pixels, so the default does not depend on it either. In the
        frozen regime, use distances of 1 to 3 with the rule "complex" and 3 to 8 with "polar". With new gradients at
        each step, the target probability of photographs rises up to a distance of 8.

        **New gradients at each step.** A step from distance d to distance r moves the image by at most
        2 sqrt(r^2 - d^2), twice the length of a step perpendicular to the displacement so far. Later steps make up for
        shortened steps; ``attained`` says whether the distance was reached. A step changes no phase by more than 1e6
        rad. If a gradient becomes exactly zero, or too small to reach the distance, the remaining frames repeat the
        frame before, and ``reasons`` names the step. The result depends little on the number of frames. With 2, 3, 5, 8
        and 12 frames (11 to 14 steps), target probabilities differed by at most .001 for 60 digits at a distance of
        2.29, and by at most .14 for four photographs at a distance of 6 (csp-joint, persistent, polar; 2026-11-28).

        **Batches.** In the regimes "persistent" and "live", the result for an image can depend on its batch. Batch
        sizes change the model's gradients by rounding errors of about 1e-6, which grow three- to tenfold with each
        gradient. For example, a photograph was morphed alone and in a batch of four, to a distance of 6 (csp-joint,
        EfficientNet-Lite0). With 11 gradients, the two last frames had an L2 distance of 1 to 5, and their target
        probabilities differed by up to .15. With 4 gradients, the distance was at most .4, and the difference .005.
        With ``internal_batch_size=1`` results are bitwise equal (pixel and pyramid families, CPU; 2026-11-28). In
        float64 they agree to 1e-13 after 4 gradients.

        **GPU.** Frozen morphs with given factors do not wait for the device if factors and target are in CPU memory.
        Images on a GPU raise no error if they are not finite or not in ``bounds``; they are not ``ok``.

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
        """Yield the frames of :meth:`morph` one by one [B, C, H, W], with only one of them in memory.

        Arguments, errors and warnings are those of :meth:`morph`. The model is not run on the frames to score them.

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
        """Return the last frame of a morph, as captum's ``Perturbation`` protocol requires.

        Parameters
        ----------
        inputs : Tensor [B, C, H, W]
            The images.
        target : as in :meth:`morph`
            For ``captum.robust.MinParamPerturbation``, pass the target in ``attack_kwargs``.
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
            steps = 1  # at factor 0 nothing moves, so further gradients would not change the frame
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
        options = self.rule, self.scales, self.orientations, self.pyramid
        key = self.family, self.color, tuple(images.shape[1:]), options
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
