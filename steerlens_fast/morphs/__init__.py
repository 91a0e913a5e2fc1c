"""``Morphs``, the result of a lens, and its strips and animations."""

from ..morph_status import MorphStatus
from .container import Morphs

__all__ = ["MorphStatus", "Morphs"]
