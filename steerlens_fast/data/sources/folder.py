"""Folders of image files: one sub-folder for each class, or no classes at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..items import Item
from .base import (
    HIDDEN,
    NO_IMAGE,
    SUFFIXES,
    SYSTEM,
    SYSTEM_FOLDERS,
    LeftOut,
    Source,
    is_image_name,
    printable,
    usage_error,
)

Place = tuple[int, int]  # device and inode: a folder, by whatever name


class FolderSource(Source):
    """Every image file of a folder and its sub-folders, in the order of their names' code points.

    Where images lie directly in it, there are no labels. Else each sub-folder is a class: classes are numbered in the
    order of their names, as torchvision's ImageFolder does, and what lies deeper belongs to the class above. A
    sub-folder without any image is an error, as there, since it would shift the numbers of the others. Links are
    followed, but not into a folder that they lie in. Hidden files and folders, folders of operating systems
    (``__MACOSX`` and the like, at any depth) and files that are no images are left out, and counted.
    """

    def __init__(self, path: str):
        self.root = os.path.abspath(path)
        files, folders = _look_into(self.root, {_place(self.root)}, LeftOut())
        classes = sorted(folders) if folders and not files else None
        super().__init__({"kind": "folder", "path": self.root, "classes": classes}, classes)

    def listing(self) -> Iterator[Item]:
        self.left_out = LeftOut()
        labels = {name: n for n, name in enumerate(self.class_names or ())}
        self._check_classes()
        index = 0
        for key in _walk(self.root, "", {_place(self.root)}, self.left_out):
            yield Item(index, key, f"{self.root}/{key}", labels.get(key.partition("/")[0]))
            index += 1
        if not index:
            raise usage_error(
                f"data must be a folder with images ({', '.join(SUFFIXES)}), got none in {printable(self.root)}"
            )

    def _check_classes(self) -> None:
        """Each class has an image; asked before the first item, since a job may list only some."""
        above = {_place(self.root)}
        empty = [name for name in self.class_names or () if not _has_image(f"{self.root}/{name}", above)]
        if empty and len(empty) < len(self.class_names):
            names = ", ".join(printable(name) for name in empty[:9]) + (" ..." if len(empty) > 9 else "")
            raise usage_error(
                f"data must have an image ({', '.join(SUFFIXES)}) in each class folder, got none in {names} of "
                f"{printable(self.root)}: remove what is no class, since classes are numbered by their folders' names"
            )


def is_of_tars(path: str) -> bool:
    """Whether a folder has .tar files, and neither images nor sub-folders."""
    try:
        names = [n for n in os.listdir(path) if not n.startswith(".")]
    except OSError:
        return False  # FolderSource says so
    tars = any(n.lower().endswith(".tar") for n in names)
    return tars and not any(is_image_name(n) or os.path.isdir(os.path.join(path, n)) for n in names)


def _walk(folder: str, under: str, above: set[Place], left_out: LeftOut) -> Iterator[str]:
    """Relative names of image files; ``above`` are the folders on the way here."""
    files, folders = _look_into(folder, above, left_out, under)
    for name in sorted(files + list(folders)):
        if name in folders:
            yield from _walk(f"{folder}/{name}", f"{under}{name}/", above | {folders[name]}, left_out)
        else:
            yield under + name


def _has_image(folder: str, above: set[Place]) -> bool:
    """Whether there is an image file in a folder or below it."""
    above = above | {_place(folder)}
    files, folders = _look_into(folder, above, LeftOut(), first=True)
    return bool(files) or any(_has_image(f"{folder}/{name}", above) for name in folders)


def _look_into(
    folder: str, above: set[Place], left_out: LeftOut, under: str = "", first: bool = False
) -> tuple[list[str], dict[str, Place]]:
    """Names of the image files directly in a folder, or the ``first`` one that is met, and its sub-folders."""
    files, folders = [], {}
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name) if not first else entries:
                if entry.name.startswith("."):
                    left_out.add(HIDDEN, under + entry.name)
                elif _is_folder(entry):
                    place = _place(entry.path)
                    if entry.name in SYSTEM_FOLDERS:
                        left_out.add(SYSTEM, f"{under}{entry.name}/")
                    elif place in above:
                        left_out.add("link to a folder that it lies in", under + entry.name)
                    else:
                        folders[entry.name] = place
                elif is_image_name(entry.name):
                    files.append(entry.name)
                    if first:
                        break
                else:
                    left_out.add(NO_IMAGE, under + entry.name)
    except OSError as error:  # not left out silently: the folder may contain images
        raise usage_error(
            f"data must be folders that can be read, got {printable(folder)}: {error.strerror}"
        ) from error
    return files, folders


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _place(folder: str) -> Place:
    about = os.stat(folder)
    return about.st_dev, about.st_ino
