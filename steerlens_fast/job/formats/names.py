"""What a key is called as a file, a folder or a member of a tar: safe everywhere, and never the same for two keys.

Letters are kept, of any script; what could do harm is percent-encoded as in a URL: "%" itself, control characters, a
leading ".", bytes that are no text, and those dots that would be taken for a suffix. An empty part is "%". A part of
more than 230 bytes is cut and ends in "%=" and a digest of the whole; a name of more than 1000 bytes becomes one such
part. All else is undone by ``urllib.parse.unquote(name, errors="surrogatepass")``.
"""

from __future__ import annotations

import re
from hashlib import blake2b

LONGEST_PART, LONGEST = 230, 1000  # bytes; file systems take 255 and 4096, and something is appended
HARMFUL = re.compile("[%\x00-\x1f\x7f\ud800-\udfff]|^\\.")
FRAME = re.compile(r"frame_\d+\.png")


def directory_name(key: str) -> str:
    """The folder of a key's frames: nothing in it is called like a frame, except frames.

    Examples
    --------
    >>> directory_name("cats/a.jpg"), directory_name("../100%"), directory_name("a/frame_00.png")
    ('cats/a.jpg', '%2E./100%25', 'a/frame_00%2Epng')
    """
    return _joined([_safe(part, dots=bool(FRAME.fullmatch(part))) for part in key.split("/")])


def member_name(key: str) -> str:
    """A key in a webdataset tar, without a dot: there the sample's name ends at the first one.

    Examples
    --------
    >>> member_name("cats/a.b.jpg"), member_name("__meta__/x")  # readers would skip a folder "__meta__"
    ('cats/a%2Eb%2Ejpg', '%5F_meta__/x')
    """
    parts = [_safe(part, dots=True) for part in key.split("/")]
    return _joined(["%5F" + part[1:] if re.fullmatch("__.*__", part) else part for part in parts])


def file_name(key: str, suffix: str) -> str:
    """A file of a key: its folders have no dot, so that none is called like a file.

    Examples
    --------
    >>> file_name("a.gif/b.jpg", ".gif")
    'a%2Egif/b.jpg.gif'
    """
    *folders, last = key.split("/")
    return _joined([*(_safe(part, dots=True) for part in folders), _safe(last, dots=False)]) + suffix


def _safe(part: str, dots: bool) -> str:
    part = HARMFUL.sub(lambda m: _percent(m[0]), part) or "%"
    return part.replace(".", "%2E") if dots else part


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))


def _joined(parts: list[str]) -> str:
    name = "/".join(part if len(part.encode()) <= LONGEST_PART else _cut(part) for part in parts)
    return name if len(name.encode()) <= LONGEST else _cut("%2F".join(parts))


def _cut(part: str) -> str:
    digest = blake2b(part.encode(), digest_size=16).hexdigest()  # of 128 bits: no two keys have the same
    return f"{part.encode()[:190].decode(errors='ignore')}%={digest}"
