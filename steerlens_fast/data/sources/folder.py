"""Folders of image files, with one sub-folder per class or without classes; single image files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import is_system_fault, usage_error
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
)

FolderId = tuple[int, int]  # device and inode


class FolderSource(Source):
    """The image files of a folder and its sub-folders.

    In each folder, files and sub-folders are sorted together, by the code points of their names.

    If the folder itself contains images, there are no labels. Otherwise each sub-folder is a class, with all images at
    any depth in it. Classes are numbered in the order of their names, as in torchvision's ImageFolder. A sub-folder
    without images is an error, since it would shift the numbers of the other classes.

    Links are followed, but no folder is entered inside itself. Hidden files and folders, folders that operating systems
    create (``__MACOSX`` and others), and files that are not images are left out and counted.
    """

    def __init__(self, path: str):
        self.root = os.path.abspath(path)
        files, folders = _scan(self.root, {_folder_id(self.root)}, LeftOut())
        classes = sorted(folders) if folders and not files else None
        super().__init__({"kind": "folder", "path": self.root, "classes": classes}, classes)

    def listing(self) -> Iterator[Item]:
        self.left_out = LeftOut()
        labels = self.class_numbers
        self._check_classes()
        index = 0
        for key in _walk(self.root, "", {_folder_id(self.root)}, self.left_out):
            yield Item(index, key, f"{self.root}/{key}", labels.get(key.partition("/")[0]))
            index += 1
        if not index:
            raise usage_error(
                f"data must be a folder with images ({', '.join(SUFFIXES)}), got none in {printable(self.root)}"
            )

    def _check_classes(self) -> None:
        """Raise if only some classes have images. (If no class has one, ``listing`` raises.)

        This is called before the first item, since a job may list only some items.
        """
        above = {_folder_id(self.root)}
        empty = [name for name in self.class_names or () if not _has_image(f"{self.root}/{name}", above)]
        if empty and len(empty) < len(self.class_names):
            names = ", ".join(printable(name) for name in empty[:9]) + (" ..." if len(empty) > 9 else "")
            raise usage_error(
                f"data must have an image ({', '.join(SUFFIXES)}) in each class folder, got none in {names} of "
                f"{printable(self.root)}: remove folders that are not classes, since they shift the class numbers"
            )


class FileSource(Source):
    """One image file, without a label."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)
        super().__init__({"kind": "file", "path": self.path})

    def listing(self) -> Iterator[Item]:
        yield Item(0, os.path.basename(self.path), self.path)


def is_tar_folder(path: str) -> bool:
    """Return whether a folder contains .tar files, and neither images nor sub-folders."""
    try:
        names = [n for n in os.listdir(path) if not n.startswith(".")]
    except OSError:
        return False  # FolderSource raises the error
    tars = any(n.lower().endswith(".tar") for n in names)
    return tars and not any(is_image_name(n) or os.path.isdir(os.path.join(path, n)) for n in names)


def _walk(folder: str, under: str, above: set[FolderId], left_out: LeftOut) -> Iterator[str]:
    """Yield the relative paths of image files. ``above`` has this folder and those that contain it."""
    files, folders = _scan(folder, above, left_out, under)
    for name in sorted(files + list(folders)):
        if name in folders:
            yield from _walk(f"{folder}/{name}", f"{under}{name}/", above | {folders[name]}, left_out)
        else:
            yield under + name


def _has_image(folder: str, above: set[FolderId]) -> bool:
    """Return whether a folder or its sub-folders contain an image file."""
    above = above | {_folder_id(folder)}
    files, folders = _scan(folder, above, LeftOut(), only_first=True)
    return bool(files) or any(_has_image(f"{folder}/{name}", above) for name in folders)


def _scan(
    folder: str, above: set[FolderId], left_out: LeftOut, under: str = "", only_first: bool = False
) -> tuple[list[str], dict[str, FolderId]]:
    """Return the image files and the sub-folders of a folder.

    With ``only_first``, the scan ends at the first image that it finds.
    """
    files, folders = [], {}
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name) if not only_first else entries:
                if entry.name.startswith("."):
                    left_out.add(HIDDEN, under + entry.name)
                elif _is_folder(entry):
                    place = _folder_id(entry.path)
                    if entry.name in SYSTEM_FOLDERS:
                        left_out.add(SYSTEM, f"{under}{entry.name}/")
                    elif place in above:
                        left_out.add("link to a folder that contains it", under + entry.name)
                    else:
                        folders[entry.name] = place
                elif is_image_name(entry.name):
                    files.append(entry.name)
                    if only_first:
                        break
                else:
                    left_out.add(NO_IMAGE, under + entry.name)
    except OSError as error:  # the folder may contain images, so it must not be left out
        raise usage_error(f"data must be a readable folder, got {printable(folder)}: {error.strerror}") from error
    return files, folders


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if is_system_fault(error):
            raise
        return False  # a link to itself


def _folder_id(folder: str) -> FolderId:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
