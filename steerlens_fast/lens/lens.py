"""``SteerableLens``: morphs images by the gradient of a classifier."""

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
from .schedule import Schedule, make_schedule
from .settings import PHOTOGRAPHS
from .smoothing import Smoothing

COLORS = ("rgb", "luma", "grey")
SCORES = ("all", "last", "none")
CACHED_TYPES = {int, float, type(None)}  # argument types of cached schedules
UNTRACED = "SteerableLens reads gradients and distances on the host; compile the model instead"


class SteerableLens:
    """Morph images toward a class by the gradient of a classifier.

    By default, the gradient changes the phases of a complex steerable pyramid. A morph is a sequence of images, its
    frames, with larger and larger changes. It shows which changes the classifier associates with the class.

    Parameters
    ----------
    model : callable
        The classifier, which maps (preprocessed) images [N, C, H, W] to logits [N, classes, ...]. It must not return
        probabilities, since a softmax is applied to its output. It may be an ``nn.Module``, any callable, or an
        exported, compiled, scripted or data-parallel model. The logits may also be the attribute ``.logits``, the item
        ``["logits"]`` or the first element of the output. The model's state, including training flags, is not changed.
    bounds : (float, float) or None
        Range of the images, to which frames are clipped. None if they have no range; frames then are not clipped.
    preprocessing : callable, optional
        Differentiable map from images in ``bounds`` to inputs of ``model``, for example a normalisation. If all
        parameters of the model have one floating-point dtype, the inputs are cast to it.
    task : {"multiclass", "binary", "multilabel"}
        What the outputs are.

        - "multiclass": one score per class, [N, classes, ...].
        - "binary": one logit z per image, [N] or [N, 1]. Class 1 has the probability sigmoid(z).
        - "multilabel": independent logits of L labels, [N, L]. Target l makes label l present, ``~l`` makes it absent.

        With the last two, each logit z becomes the two scores -z/2 and z/2, so that a softmax gives probabilities.
        ``Morphs.outputs`` is [B, F, 2] or [B, F, 2, L], and a custom objective gets [N, 2] or [N, 2, L].
    family : {"csp-phase", "csp-amplitude", "csp-joint", "fourier", "pixel"} or Family
        What changes: phases or amplitudes of the pyramid or both ("joint"), phases of the Fourier transform, or pixels.
    rule : {"complex", "polar"}
        How the gradient changes a coefficient. "complex", the paper's rule, subtracts the gradient from the complex
        coefficient, and takes the resulting change of phase and amplitude as the step. "polar" is gradient descent in
        phase and log amplitude. A frame's factor multiplies the step. With "complex", the step is proportional to the
        gradient only if the gradient is small beside the coefficients. So it depends on the units of images and loss,
        and changes of amplitude may lower the target's probability. "polar" has neither problem. See
        :func:`steerlens_fast.ops.step` and ``families/README.md``.
    regime : {"frozen", "persistent", "live"}
        When gradients are computed.

        - "frozen": once, at the source. Frames are the source, changed by multiples of one step.
        - "live": at each step. The image after the previous step is decomposed again, and the step changes it.
        - "persistent": at each step. Changes of the source's coefficients add up; in total, phases change by at most
          pi and log amplitudes by at most 1.

        The number of ``steps`` is an argument of :meth:`morph`.
    objective : {"nll", "logit", "margin", "log-probability"} or callable
        The loss that the morph decreases. "nll": the negative log likelihood of the target; "log-probability" is
        another name for it. "logit": minus the target's score. A score is a logit; that of target 0 of a binary model,
        or of the absence ``~l`` of label ``l``, is minus the logit. "margin": the score of the source class minus that
        of the target. A callable ``(outputs, target) -> [N]`` returns a loss for each sample.
    color : {"rgb", "luma", "grey"}
        "rgb": each channel changes. "luma": the luma of RGB images changes, and its change is added to all channels.
        "grey": images are converted to grey first. No effect on images of one channel.
    pyramid : SteerablePyramid or mapping, optional
        The pyramid, or options of :class:`SteerablePyramid` for images of any size, e.g. ``{"synthesis": "adjoint"}``.
    scales, orientations : sequence of int, optional
        Bands that change; by default all.
    phase_cap : float, optional
        Largest phase change, in radians, by one gradient. If a phase would change more, the sample's factors are
        scaled down: in the frozen regime the factors of all frames, in the other regimes the factors of this step.
    smoothing : mapping, optional
        Averages each gradient over noisy copies of the image (SmoothGrad, arXiv 1706.03825), for example
        ``{"noise": 0.1, "samples": 8}``. By default gradients are not averaged. The options are

        - ``noise``: standard deviation of the noise, in the units of the images.
        - ``samples`` (8): number of copies. Each costs as much as a plain gradient.
        - ``seed`` (0): seed of the noise, which is the same for all images.
        - ``shift`` (0), ``scale`` (0), ``flip`` (False): copies are also shifted by up to ``shift`` pixels, resized by
          a factor from 1 - ``scale`` to 1 + ``scale``, and mirrored if ``flip``, at random.
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
        # Whether to warn of targets that are already predicted, missed distances, failed samples, falling probabilities
        self.warn_about_results = True
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
        for name, indices in checked.items():
            if indices == ():
                raise ValueError(f"{name} must contain at least one index, or be None for all, got an empty sequence")
        self.scales, self.orientations = checked["scales"], checked["orientations"]
        self.class_names = None if class_names is None else as_class_names("class_names", class_names)
        self._check_named_family() if isinstance(family, str) else self._check_family_object()
        self._check_pyramid()
        self._last_family: tuple | None = None  # (options, family), see _family_for
        self._last_schedule: tuple | None = None  # (options, schedule), see _schedule_for
        # Distance of morphs without given factors or distances; None for twice the range of ``bounds``
        self.default_l2: float | None = None

    @classmethod
    def for_photographs(cls, model: Callable, **options: Any) -> SteerableLens:
        """Return a lens with the settings that suited photographs best in a measurement.

        Phases of the luma move with the rule "polar" and the regime "persistent". Without factors or distances,
        :meth:`morph` ends at an L2 distance of 12 times the range of ``bounds``. (If ``bounds`` is None, a distance or
        factors must be given.) ``lens/photographs.md`` describes the measurement.

        Parameters
        ----------
        model : callable
            As in :class:`SteerableLens`.
        **options
            Other arguments of :class:`SteerableLens`; they override these settings. Family objects have their own rule.
            ``max_l2`` is another distance in place of 12 times the range.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()
        >>> lens = SteerableLens.for_photographs(model, family="csp-joint")
        >>> lens.family, lens.rule, lens.color, lens.regime, lens.default_l2
        ('csp-joint', 'polar', 'luma', 'persistent', 12.0)
        """
        settings: dict[str, Any] = dict(PHOTOGRAPHS)
        if not isinstance(options.get("family", ""), str):
            del settings["rule"]
        relative_l2, max_l2 = settings.pop("max_l2"), options.pop("max_l2", None)
        lens = cls(model, **settings | options)
        if max_l2 is None and lens.bounds is not None:
            max_l2 = relative_l2 * (lens.bounds[1] - lens.bounds[0])
        lens.default_l2 = max_l2
        return lens

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.settings.items() if v is not None)
        return f"SteerableLens({type(self.classifier.model).__name__}, {settings})"

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the lens as JSON-compatible data."""
        named, objective = isinstance(self.family, str), self.objective
        return {
            "family": self.family if isinstance(self.family, str) else _family_text(self.family),
            "rule": self.rule if named and self.family != "pixel" else None,
            "regime": self.regime,
            "task": self.classifier.task,
            "objective": objective if isinstance(objective, str) else _name_of(objective),
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
            ints for outputs with more dimensions. A class name can replace an int. "runner-up" (the default), "least"
            and "argmax" are the classes with the second highest, lowest and highest score for the source.
        factors : float, sequence [F], Tensor [F] or [B, F], optional
            Numbers by which the step of a gradient is multiplied, one for each frame. A float is the factor of the
            last frame; the factors of the other frames grow linearly from 0 to it. Negative factors move away from the
            target.
        amplitude_factors : float, sequence [F], Tensor [F] or [B, F], optional
            Factors of the changes of amplitude, for family "csp-joint"; by default ``factors``.
        max_l2 : float, sequence [B] or Tensor [B], optional
            L2 distance of the last frame from the source, over all channels and pixels. If distances do not always grow
            with the factor, several factors may reach this distance; the search finds any of them. If neither
            ``factors`` nor ``distances`` is given, the default is twice the range of ``bounds``, or the distance of
            :meth:`for_photographs` for a lens that it made.
        distances : sequence of M floats or Tensor [B, M], optional
            L2 distances of several frames. The result is the source, and one frame at each distance. In the regimes
            "persistent" and "live", distances must increase.
        frames : int, optional
            Number of frames F, including the source; by default 12, or ``steps`` + 1 for fewer than 11 ``steps``. With
            several ``factors``, F is their number; with M ``distances``, it is M + 1.
        steps : int, optional
            Number of gradients in the regimes "persistent" and "live": at least one for each frame after the source; by
            default 11, or more for more than 12 frames. The number is rounded up, so that all these frames take
            equally many gradients. Must be None in the regime "frozen".
        internal_batch_size : int, optional
            Largest number of samples in one call of the model; by default all.
        additional_forward_args : optional
            Further arguments of the model, as in captum: a value or a tuple. Tensors [B, ...] are split like images.
        score : {"all", "last", "none"}
            Frames on which the model is run for ``Morphs.outputs``. Frames at which a gradient was computed, such as
            the source, always have outputs.

        Returns
        -------
        Morphs
            ``frames`` [B, F, C, H, W] with the images' device and dtype, outputs, distances, and the status of each
            sample (:class:`steerlens_fast.MorphStatus`). A sample is not ``ok`` if a gradient is zero or not
            finite; the sample then does not move any more. Nor is a sample ``ok`` if the gradient is too small to reach
            the distance, or if a frame overflows and is replaced by the source.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid.

        Warns
        -----
        UserWarning
            If the model already predicts the target class (``Morphs.already_predicted``), if a distance is not reached
            (``Morphs.attained``), if a sample is not ``ok`` for another reason, or if the last frame has a lower target
            probability than an earlier frame (``Morphs.fell``). On a GPU, these warnings are omitted with ``factors``,
            because the checks would wait for the device. There is also a warning if the model is in training mode or,
            on a CPU, seems to return probabilities.

        Notes
        -----
        ``lens/distances.md`` shows which distances change a prediction, and how steps and batches influence the result.

        - If the first frame has factor 0, it equals the source up to rounding errors of the reconstruction, less than
          3e-6 for images in [0, 1]. In the regime "frozen", this holds for every frame of factor 0.
        - A distance is attained if the error is at most 5e-4, and at most a thousandth of the distance. (For distance
          0, only the first limit applies.)
        - The loss of a batch is the sum over its samples, so no sample depends on the others, except for rounding.
        - If several threads morph, only one at a time runs a model.
        - Frozen morphs with given factors do not wait for a GPU if factors and target are in CPU memory. Images on a
          GPU raise no error if they are not finite or not in ``bounds``; they are not ``ok``.

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
        extent = dict(
            factors=factors,
            amplitude_factors=amplitude_factors,
            max_l2=max_l2,
            distances=distances,
            frames=frames,
            steps=steps,
        )
        with torch.no_grad():
            run = MorphRun(self, images, target, extent, internal_batch_size, additional_forward_args, score)
            return run.result(*run.render())

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
        """Yield the frames of :meth:`morph` [B, C, H, W] one by one.

        Only one frame is in memory at a time. Arguments and errors are those of :meth:`morph`. Frames are not scored or
        checked afterwards, so there is no warning of missed distances, failed samples or falling probabilities.

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
        extent = dict(
            factors=factors,
            amplitude_factors=amplitude_factors,
            max_l2=max_l2,
            distances=distances,
            frames=frames,
            steps=steps,
        )
        with torch.no_grad():
            run = MorphRun(self, images, target, extent, internal_batch_size, additional_forward_args, score="none")
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
            For ``captum.robust.MinParamPerturbation``, pass this target in ``attack_kwargs``, and the predicted class
            as ``target``; ``lens/README.md`` has an example.
        factor : float, optional
            The factor of the last frame.
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
        extent: dict[str, Any] = dict(factors=factor, max_l2=max_l2, frames=2, steps=steps)
        morphs = self.morph(inputs, target, **extent, score="none", **options)
        if factor is not None and inputs.is_cuda and self.warn_about_results and not morphs.ok.all():
            # In other cases, morph() has warned already.
            reasons = sorted({reason for reason in morphs.reasons if reason})
            text = f"{int((~morphs.ok).sum())} of {len(morphs)} inputs did not reach the requested factor"
            warnings.warn(f"{text}: {'; '.join(reasons)}", UserWarning, stacklevel=warning_stacklevel())
        return morphs.frames[:, -1].contiguous()

    __call__ = perturb  # captum calls a Perturbation

    # --- Checks, and the family of a batch of images ---

    def _check_amplitude_factors(self, amplitude_factors: object) -> None:
        if amplitude_factors is None:
            return
        if isinstance(self.family, str):
            if self.family != "csp-joint":
                moves = {"pixel": "pixels", "csp-amplitude": "amplitudes"}.get(self.family, "phases")
                raise ValueError(f"amplitude_factors must be None for family {self.family!r}, which moves only {moves}")
        elif not getattr(self.family, "moves_amplitude", True):  # families of users need not have it
            family = _family_text(self.family)
            raise ValueError(f"amplitude_factors must be None for family {family}, which moves no amplitudes")

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
            raise TypeError(f"family must be {kinds}, got {checks.shown(self.family)}")
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
            # Raises for an invalid option. The size is large, because a small size would limit the option height.
            SteerablePyramid((1 << 14, 1 << 14), **self.pyramid)
        elif self.pyramid is not None and not isinstance(self.pyramid, SteerablePyramid):
            kind = type(self.pyramid).__name__
            raise TypeError(f"pyramid must be a SteerablePyramid or a mapping of its options, got {kind}")

    def _family_for(self, images: Tensor) -> Family:
        """Return the edit family for images [B, C, H, W]; the last family is cached."""
        options = self.rule, self.scales, self.orientations, self.pyramid
        key = self.family, self.color, images.shape[1:], options
        last = self._last_family  # read once, since another thread may replace it
        if last is None or last[0] != key:
            family = self.family
            if isinstance(family, str):
                restricted = self.scales is not None or self.orientations is not None
                needs_pyramid = family.startswith("csp-") or restricted
                pyramid = self._pyramid_for((images.shape[-2], images.shape[-1])) if needs_pyramid else None
                family = make_family(family, pyramid, self.rule, self.scales, self.orientations)
            family = LumaFamily(family) if self.color != "rgb" and images.shape[1] == 3 else family
            last = self._last_family = key, family
        return last[1]

    def _schedule_for(self, images: Tensor, extent: dict) -> Schedule:
        """Return the schedule of images [B, C, H, W] for the options ``extent``.

        On CPUs, the last schedule is cached if all options are numbers or None. It is not cached for families of users,
        which could change the schedule's tensors, or in inference mode, because autograd could not save these tensors.
        """
        types = list(map(type, extent.values()))
        cacheable = CACHED_TYPES.issuperset(types) and isinstance(self.family, str) and images.device.type == "cpu"
        key = images.shape[0], images.dtype, self.regime, self.bounds, self.default_l2, types, extent
        last = self._last_schedule if cacheable else None
        if last is None or last[0] != key:
            if self.default_l2 is not None and all(extent[n] is None for n in ("factors", "max_l2", "distances")):
                extent = extent | {"max_l2": self.default_l2}
            last = key, make_schedule(images, self.bounds, regime=self.regime, **extent)
            if cacheable and not torch.is_inference_mode_enabled():
                self._last_schedule = last
        return last[1]

    def _pyramid_for(self, shape: tuple[int, int]) -> SteerablePyramid:
        if isinstance(self.pyramid, SteerablePyramid):
            if self.pyramid.image_shape != shape:
                raise ValueError(f"images must be {self.pyramid.image_shape} pixels like the pyramid, got {shape}")
            return self.pyramid
        return SteerablePyramid(checks.check_image_shape(shape, "images"), **(self.pyramid or {}))


def _name_of(objective: Callable) -> str:
    return getattr(objective, "__name__", type(objective).__name__)


def _family_text(family: Family) -> str:
    """Return the repr of a family object, or the name of its class."""
    return type(family).__name__ if type(family).__repr__ is object.__repr__ else repr(family)
