"""The gallery: a static page of a job's morphs."""

from .gallery import write_gallery

__all__ = ["write_gallery"]
