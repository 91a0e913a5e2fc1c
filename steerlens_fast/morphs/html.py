"""Shows morphs in a notebook, as HTML with a strip and a slider over the frames.

Needs the extra ``plot``.
"""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from .strips import FRAMES, draw_strips, strip_data, tiled_frames

if TYPE_CHECKING:
    from .container import Morphs

SAMPLES, SLIDER_FRAMES, DPI = 4, 16, 85  # few, since a notebook stores the output of its cells
# The slider's event handler, which shows the chosen frame and hides the others. It is an attribute of the slider; a
# script would need ids that are unique in the page.
CHOOSE = "this.parentNode.querySelectorAll('img').forEach((image, i) => (image.hidden = i != this.value))"


def morphs_html(morphs: Morphs) -> str:
    """Return HTML with a strip, a slider and all pictures that they show.

    In an untrusted notebook, where scripts are disabled, the slider only shows the first frame.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import Morphs
    >>> frames, factors = torch.rand(2, 12, 3, 16, 16), torch.linspace(0, 4, 12).expand(2, 12)
    >>> outputs, zeros, ones = torch.randn(2, 12, 2), torch.tensor([0, 0]), torch.tensor([1, 1])
    >>> rest = {"amplitude_factors": None, "budget": None, "attained": None, "status": zeros, "settings": {}}
    >>> morphs = Morphs(frames, factors, target=ones, source=zeros, outputs=outputs, l2=factors, **rest)
    >>> text = morphs_html(morphs)
    >>> text.count("<img"), text.count('src="data:image/jpeg;base64,')  # with and without the strip
    (13, 12)
    """
    strip = io.BytesIO()
    draw_strips(strip_data(morphs, None, SAMPLES, None, FRAMES)).savefig(strip, format="png", dpi=DPI)
    pictures = []
    for picture in tiled_frames(strip_data(morphs, None, SAMPLES, None, SLIDER_FRAMES)):
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=90, subsampling=0)
        pictures.append(file.getvalue())
    slider = f'<input type="range" min="0" max="{len(pictures) - 1}" value="0" aria-label="frame" oninput="{CHOOSE}">'
    frames = "".join(_image("jpeg", data, hidden=i > 0) for i, data in enumerate(pictures))
    text = html.escape(repr(morphs))
    shown = f"<div>{slider}<br>{frames}</div><pre style='white-space: pre-wrap'>{text}</pre>"
    return f"<div>{_image('png', strip.getvalue())}{shown}</div>"


def _image(kind: str, data: bytes, hidden: bool = False) -> str:
    return f'<img {"hidden " if hidden else ""}src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
