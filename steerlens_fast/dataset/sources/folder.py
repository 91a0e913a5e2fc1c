"""Folders of image files: one sub-folder for each class, or no classes at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..items import Item
from .base import SUFFIXES, Source, is_image_name, show, usage

Place = tuple[int, int]  # device and inode: a folder, by whatever name


class FolderSource(Source):
    """Every image file of a folder and its sub-folders, in the order of their names' code points.

    Where images lie directly in it, there are no labels. Else each sub-folder is a class, also an empty one: classes
    are numbered in the order of their names, as torchvision's ImageFolder does, and what lies deeper belongs to the
    class above. Links are followed, but not into a folder that they lie in. Hidden files and folders are left out.
    """

    def __init__(self, path: str):
        self.root = os.path.abspath(path)
        files, folders = _look_into(self.root, {_place(self.root)})
        classes = sorted(folders) if folders and not files else None
        super().__init__({"kind": "folder", "path": self.root, "classes": classes}, classes)

    def listing(self) -> Iterator[Item]:
        labels = {name: n for n, name in enumerate(self.class_names or ())}
        index = 0
        for key in _walk(self.root, "", {_place(self.root)}):
            yield Item(index, key, f"{self.root}/{key}", labels.get(key.partition("/")[0]))
            index += 1
        if not index:
            raise usage(f"data must be a folder with images ({', '.join(SUFFIXES)}), got none in {show(self.root)}")


def is_of_tars(path: str) -> bool:
    """Whether a folder has .tar files, and neither images nor sub-folders."""
    try:
        names = [n for n in os.listdir(path) if not n.startswith(".")]
    except OSError:
        return False  # FolderSource says so
    tars = any(n.lower().endswith(".tar") for n in names)
    return tars and not any(is_image_name(n) or os.path.isdir(os.path.join(path, n)) for n in names)


def _walk(folder: str, under: str, above: set[Place]) -> Iterator[str]:
    """Relative names of image files; ``above`` are the folders on the way here."""
    files, folders = _look_into(folder, above)
    for name in sorted(files + list(folders)):
        if name in folders:
            yield from _walk(f"{folder}/{name}", f"{under}{name}/", above | {folders[name]})
        else:
            yield under + name


def _look_into(folder: str, above: set[Place]) -> tuple[list[str], dict[str, Place]]:
    """Names of the image files directly in a folder, and its sub-folders."""
    files, folders = [], {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    place = _place(entry.path)
                    if place not in above:
                        folders[entry.name] = place
                elif is_image_name(entry.name):
                    files.append(entry.name)
    except OSError as error:  # loud: a folder that cannot be looked into may hold anything
        raise usage(f"data must be folders that can be read, got {show(folder)}: {error.strerror}") from error
    return files, folders


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _place(folder: str) -> Place:
    about = os.stat(folder)
    return about.st_dev, about.st_ino
