"""Atomic writes: the order of synchronisation, and failures."""

import os
import stat

import pytest

from steerlens_fast.io.atomic_io import atomic_write


@pytest.mark.parametrize("durable, expected", [(True, ["file", "replace", "folder"]), (False, ["replace"])])
def test_durable_write_synchronises_the_file_then_its_folder(tmp_path, monkeypatch, durable, expected):
    calls, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def recorded_replace(*paths):
        calls.append("replace")
        replace(*paths)

    (tmp_path / ".a.previous").touch()  # a user's file, which must remain. Backups have other names
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    with atomic_write(tmp_path / "a", durable=durable) as file:
        file.write(b"whole")
    assert calls == expected and (tmp_path / "a").read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == [".a.previous", "a"]


def test_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a", durable=False) as file:
        file.write(b"half")
        raise RuntimeError
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]
