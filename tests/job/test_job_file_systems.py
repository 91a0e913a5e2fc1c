"""Jobs, evaluations, exports and galleries on file systems that lack a call, are full, or read-only."""

import builtins
import errno
import fcntl
import io
import json
import os
import shutil
import stat
import warnings
from pathlib import Path

import evaluate_models
import pytest
from job_models import arguments, digests, frames, lines, make_folder, markers, run_here, temporaries

import steerlens_fast.job.run as run_module
from steerlens_fast import evaluate_families
from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, FATAL, NO_SPACE, SOME_FAILED, USAGE, JobError
from steerlens_fast.io import atomic_io
from steerlens_fast.io.atomic_io import atomic_path
from steerlens_fast.io.output_dir import hold_lock
from steerlens_fast.job.folder import JobFolder, has_plan
from steerlens_fast.job.formats.common import replacing_folder

pytest.importorskip("PIL")
pytest.importorskip("safetensors")

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "images", 6)


@pytest.fixture(scope="module")
def job(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("job") / "out"
    assert run_here(out, data=data) == DONE
    return out


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch):
    """Forget the warnings of earlier tests, since a process gives each of them once."""
    monkeypatch.setattr(atomic_io, "_warned", set())


def evaluated(out: Path, **more):
    options = {"families": ["pixel"], "max_l2": 1.0, "frames": 3, "select": "all", "channels": 1, "sources": 4}
    options |= {"restarts": 1, "draws": 20, "probe_directions": 0, "figures": False, **more}
    return evaluate_families(
        evaluate_models.data(), evaluate_models.driver().eval(), {"judge": evaluate_models.judge()}, out=out, **options
    )


def failing(monkeypatch, module, name: str, number: int, when=lambda *args: True) -> list:
    """Make a system call fail; return the list of calls that have failed."""
    real, failed = getattr(module, name), []

    def call(*args, **more):
        if when(*args):
            failed.append(args)
            named = [str(arg) for arg in args[:1] if isinstance(arg, (str, Path))]
            raise OSError(number, os.strerror(number), *named)
        return real(*args, **more)

    monkeypatch.setattr(module, name, call)
    return failed


def is_folder(handle: int) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)


def is_file(handle: int) -> bool:
    return not is_folder(handle)


# --- Without locks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_missing_locks_give_a_warning(number, data, job, tmp_path, monkeypatch, capsys):
    failing(monkeypatch, fcntl, "flock", number)
    problem = r"\.lock cannot be locked: the file system does not support locking "
    text = rf"{problem}\({os.strerror(number)}\): a second run in"
    with pytest.warns(UserWarning, match=text):
        assert run_here(tmp_path / "out", data=data) == DONE
    assert digests(tmp_path / "out") == digests(job)
    capsys.readouterr()
    assert main(["status", str(tmp_path / "out")]) == DONE
    assert json.loads(capsys.readouterr().out)["running"] is None
    with pytest.warns(UserWarning, match=text):
        assert main(["verify", str(tmp_path / "out"), "--discard"]) == DONE
    with pytest.warns(UserWarning, match=text):
        assert evaluated(tmp_path / "evaluation").summary["budgets"]


@pytest.mark.parametrize("world, code", [(1, DONE), (2, FATAL)])
def test_several_ranks_need_locks(world, code, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    failing(monkeypatch, fcntl, "flock", errno.ENOLCK)
    with pytest.warns(UserWarning, match="cannot be locked"):
        assert run_here(tmp_path, "--engine", "env", data=data) == code
    stderr = capsys.readouterr().err
    assert code == DONE or (f"{tmp_path / '.lock-ranks'} cannot be locked" in stderr and "NFS without nolock" in stderr)


def test_forked_process_does_not_keep_the_lock(tmp_path):
    reader, writer = os.pipe()
    with hold_lock(tmp_path / ".lock"):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # until the test closes the pipe
            os._exit(0)
    os.close(reader)
    try:
        with hold_lock(tmp_path / ".lock"):
            pass
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_other_errors_of_locks_name_the_file(data, tmp_path, monkeypatch, capsys):
    failing(monkeypatch, fcntl, "flock", errno.EIO)
    assert run_here(tmp_path, data=data) == FATAL
    stderr = capsys.readouterr().err
    assert str(tmp_path / ".lock") in stderr and "the disk, or the connection to it, has failed" in stderr


# --- Without fsync ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [is_folder, is_file])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_missing_fsync_gives_one_warning(number, which, data, job, tmp_path, monkeypatch):
    failed = failing(monkeypatch, os, "fsync", number, which)
    with pytest.warns(UserWarning, match="cannot be flushed to disk") as caught:
        assert run_here(tmp_path / "out", data=data) == DONE and failed
    assert len(caught) == 1 and os.strerror(number) in str(caught[0].message)
    assert digests(tmp_path / "out") == digests(job)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.EINVAL])
def test_folders_that_cannot_be_opened_give_a_warning(number, data, job, tmp_path, monkeypatch):
    failing(monkeypatch, os, "open", number, lambda path, *_: os.path.isdir(path) and str(tmp_path) in str(path))
    with pytest.warns(UserWarning, match="cannot be flushed to disk"):
        assert run_here(tmp_path / "out", data=data) == DONE
    assert digests(tmp_path / "out") == digests(job)


def test_evaluations_continue_without_fsync(tmp_path, monkeypatch):
    failing(monkeypatch, os, "fsync", errno.EINVAL)
    with pytest.warns(UserWarning, match="cannot be flushed to disk"):
        result = evaluated(tmp_path)
    assert result.summary["budgets"][0]["attainment"]["of"] == 4


# --- On network file systems -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, errno.EPERM])
def test_exclusive_write_replaces_nothing(number, tmp_path, monkeypatch):
    if number:  # no hard links
        failing(monkeypatch, os, "link", number)
    path = tmp_path / "plan.json"
    atomic_io.write_json(path, "first", exclusive=True)
    with pytest.raises(FileExistsError, match=str(path)):
        atomic_io.write_json(path, "second", exclusive=True)
    assert atomic_io.read_json(path) == "first" and not temporaries(tmp_path)


def test_job_of_another_machine_is_seen(data, job, tmp_path, monkeypatch, capsys):
    """As on NFS, another machine's plan is visible only after this machine has created a file."""
    out, created, real_touch = Path(shutil.copytree(job, tmp_path / "out")), [], Path.touch
    monkeypatch.setattr(Path, "touch", lambda path: created.append(path) or real_touch(path))
    monkeypatch.setattr(run_module, "has_plan", lambda out: bool(created) and has_plan(out))
    assert run_here(out, data=data) == USAGE
    assert f"got {out}, which has a job" in capsys.readouterr().err and len(markers(out)) == 2


def test_summary_of_a_rank_has_the_shards_of_other_machines(job, tmp_path, monkeypatch):
    """As on NFS, another machine's shard is visible only after this machine has created a file in shards/."""
    out, created, real_touch = Path(shutil.copytree(job, tmp_path / "out")), [], Path.touch
    (out / "summary.json").unlink()
    monkeypatch.setattr(Path, "touch", lambda path: created.append(path.parent.name) or real_touch(path))
    marker = JobFolder.marker
    seen = lambda folder, shard: marker(folder, shard) if shard == 0 or "shards" in created else None
    monkeypatch.setattr(JobFolder, "marker", seen)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_here(out, engine="env") == DONE
    assert json.loads((out / "summary.json").read_text())["complete"]


# --- Without renaming over a file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EPERM])
def test_files_are_replaced_without_renaming_over_them(number, data, job, tmp_path, monkeypatch):
    failing(monkeypatch, os, "replace", number, lambda source, target: os.path.lexists(target))
    for more in ([], ["--overwrite"], ["--resume"]):
        assert run_here(tmp_path / "out", *more, data=data) == DONE
        assert digests(tmp_path / "out") == digests(job) and not temporaries(tmp_path / "out")
    evaluated(tmp_path / "evaluation")
    assert evaluated(tmp_path / "evaluation", resume=True).code in (DONE, SOME_FAILED) and not temporaries(tmp_path)


def test_file_that_cannot_be_replaced_is_kept(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    failing(monkeypatch, os, "replace", errno.EPERM)
    renames = []
    # The second rename fails: the old file has become the backup, and the new one cannot get its name
    failing(monkeypatch, os, "rename", errno.EPERM, lambda *_: renames.append(0) or len(renames) == 2)
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def _write_file(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _write_folder(path: Path, text: str) -> None:
    with replacing_folder(path) as temporary:
        (temporary / "text").write_text(text)


@pytest.mark.parametrize("write, text_file", [(_write_file, "a.json"), (_write_folder, "a.json/text")])
def test_kill_between_the_renames_loses_nothing(write, text_file, tmp_path, monkeypatch):
    path, synchronised = tmp_path / "a.json", []
    write(path, '"old"')
    child = os.fork()
    if child == 0:  # ends at the second rename; the exit status is the number of flushes before, 1
        try:
            second = lambda source, target: target == path and os._exit(len(synchronised))
            failing(monkeypatch, os, "replace", errno.EPERM)
            failing(monkeypatch, os, "rename", errno.EPERM, second)
            monkeypatch.setattr(atomic_io, "sync_folder", synchronised.append)
            write(path, '"new"')
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 and not path.exists()
    for leftover in tmp_path.glob(atomic_io.TEMPORARY_PATTERN):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    assert write is _write_folder or atomic_io.read_json(path) == "old"
    atomic_io.restore_backups(tmp_path)
    assert (tmp_path / text_file).read_text() == '"old"' and not list(tmp_path.glob(atomic_io.BACKUP_PATTERN))


@pytest.mark.parametrize("more", ["--resume", "--overwrite"])
def test_job_continues_from_backups_that_a_kill_left(more, data, job, tmp_path, capsys):
    out = Path(shutil.copytree(job, tmp_path / "out"))
    hidden = [out / "plan.json", out / "items.jsonl", markers(out)[0]]
    for path in hidden:
        path.rename(atomic_io.backup_path(path))
    shutil.copy(out / "config.json", atomic_io.backup_path(out / "config.json"))  # killed after the second rename
    for command in ("status", "verify"):
        assert main([command, str(out)]) == DONE
    stdout = capsys.readouterr().out
    assert '"items": 6' in stdout and "2 of 2 shards are undamaged" in stdout
    first = next((out / "shards").glob("*.safetensors"))
    first.rename(atomic_io.backup_path(first))
    records = first.with_suffix(".jsonl")
    records.rename(atomic_io.backup_path(records))
    assert main(["verify", str(out)]) == main(["export", str(out), "--format", "npz"]) == DONE
    message = capsys.readouterr().out
    assert "2 of 2 shards are undamaged" in message and f"6 morphs in {out}-npz\n" in message
    assert run_here(out, more, data=data) == DONE
    assert digests(out) == digests(job) and not list(out.rglob(atomic_io.BACKUP_PATTERN))


def test_exports_count_complete_shards(job, tmp_path, capsys):
    out = Path(shutil.copytree(job, tmp_path / "out"))
    for number, code, morphs in ((0, DONE, 2), (1, FATAL, 0)):  # without shard 0, only the 2 morphs of shard 1 remain
        (out / "shards" / f"{number:05d}.safetensors").unlink()
        assert main(["export", str(out), "--format", "npz", "--to", str(tmp_path / str(number))]) == code
        message = capsys.readouterr().out
        assert (
            f"{morphs} morphs in" in message and f'; {1 - number} of 2 shards are complete, see "steerlens' in message
        )


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_files_of_the_user_with_the_name_of_a_backup_are_kept(kind, tmp_path):
    """A file is never the backup of a folder, and a folder (or a link to one) never that of a file."""
    write, write_own = (_write_folder, _write_file) if kind == "file" else (_write_file, _write_folder)
    backup = atomic_io.backup_path(tmp_path / "a")
    own = tmp_path / "own" if kind == "link" else backup
    write_own(own, "precious")
    if kind == "link":
        backup.symlink_to(own)
    for _ in range(1 if kind == "file" else 2):  # writing a folder twice would fail: its backup cannot replace a file
        write(tmp_path / "a", "new")
    own_file = own / "text" if own.is_dir() else own
    assert os.path.lexists(backup) and own_file.read_text() == "precious"


def test_link_in_place_of_a_backup_is_deleted_but_not_the_linked_folder(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "precious").touch()
    atomic_io.backup_path(tmp_path / "a").symlink_to("own")
    (tmp_path / "a").mkdir()
    _write_folder(tmp_path / "a", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "own"] and any((tmp_path / "own").iterdir())


def test_folder_that_cannot_be_renamed_is_replaced(tmp_path, monkeypatch):
    """Renaming a folder of a container's image fails with EXDEV."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    failing(monkeypatch, os, "rename", errno.EXDEV, lambda source, target: Path(source).name == "a")
    with replacing_folder(tmp_path / "a") as temporary:
        (temporary / "new").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/new"]


def test_folder_that_cannot_be_replaced_is_kept(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    renames = []
    failing(monkeypatch, os, "rename", errno.EACCES, lambda *_: renames.append(0) or len(renames) == 2)
    with pytest.raises(PermissionError, match=r"/a'"), replacing_folder(tmp_path / "a") as temporary:
        (temporary / "new").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/old"]


# --- Reading: faults of the storage, limits of the process ----------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EMFILE])
def test_faults_in_reading_images_end_the_job(number, data, job, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        failing(patched, os, "open", number, lambda path, *_: str(path).endswith("003.png"))
        assert run_here(tmp_path, data=data) == FATAL
    stderr = capsys.readouterr().err
    assert f"003.png cannot be read: [Errno {number}] {os.strerror(number)}" in stderr and "Traceback" not in stderr
    assert run_here(tmp_path, "--resume", data=data) == DONE and digests(tmp_path) == digests(job)


def test_faults_in_verifying_discard_nothing(job, tmp_path, monkeypatch, capsys):
    out = Path(shutil.copytree(job, tmp_path / "out"))
    with monkeypatch.context() as patched:
        failing(patched, os, "stat", errno.EIO, lambda path, *_: str(path).endswith("00001.safetensors"))
        assert main(["verify", str(out), "--discard"]) == FATAL
    assert "the disk, or the connection to it, has failed" in capsys.readouterr().err
    assert main(["verify", str(out)]) == DONE


# --- Full, or without write access -----------------------------------------------------------------------------------

# (number of the error, exit status)
ERRORS = [(n, NO_SPACE) for n in (errno.ENOSPC, errno.EDQUOT)]
ERRORS += [(n, FATAL) for n in (errno.EROFS, errno.EACCES, errno.EIO)]


@pytest.mark.parametrize("call", ["replace", "fsync", "mkdir"])
@pytest.mark.parametrize("number, code", ERRORS)
def test_disk_errors_of_a_job_name_the_file(number, code, call, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    failed = failing(monkeypatch, os, call, number)
    assert run_here(out, data=data) == code and failed
    stderr = capsys.readouterr().err
    assert f"{os.strerror(number)}: '{out}" in stderr and ".tmp" not in stderr and "Traceback" not in stderr
    assert ("no space left" in stderr) == (code == NO_SPACE) and not temporaries(tmp_path)
    monkeypatch.undo()
    assert run_here(out, "--resume", data=data) == DONE


@pytest.mark.parametrize("number, code", ERRORS)
def test_disk_errors_of_an_evaluation_name_the_file(number, code, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        failing(patched, os, "fsync", number)
        with pytest.raises(JobError, match=rf"{os.strerror(number)}: '{tmp_path}/(?!\.)") as caught:
            evaluated(tmp_path)
    assert caught.value.code == code and not temporaries(tmp_path)
    assert evaluated(tmp_path, resume=True).code in (DONE, SOME_FAILED)


@pytest.mark.parametrize("number, code", ERRORS)
def test_writes_that_fail_name_the_file(number, code, data, tmp_path, monkeypatch, capsys):
    """The system's errors in writing do not name the file, so the name is added."""

    class Full(io.FileIO):
        def write(self, _):
            raise OSError(number, os.strerror(number))

    real = builtins.open

    def opened(path, mode="r", *more, **options):
        return Full(path, mode) if str(path).endswith(".tmp") else real(path, mode, *more, **options)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", opened)
        assert run_here(tmp_path, data=data) == code
    stderr = capsys.readouterr().err
    if number != errno.EACCES:  # no name is added, since a real write cannot fail with EACCES
        assert f"{os.strerror(number)}: '{tmp_path / 'items.jsonl'}'" in stderr
    assert not temporaries(tmp_path) and run_here(tmp_path, "--resume", data=data) == DONE


@pytest.mark.parametrize("number, code", ERRORS)
@pytest.mark.parametrize("first_file", [True, False])
def test_disk_errors_of_exports_and_galleries_name_the_file(
    first_file, number, code, job, tmp_path, monkeypatch, capsys
):
    """The first file of an export is export.json. If it cannot be written, the folder remains empty."""
    to = tmp_path / "to"
    to.mkdir()
    fails = lambda *args: first_file or Path(args[1]).name != "export.json"
    for command in (["export", "--format", "npz"], ["export", "--format", "safetensors"], ["gallery"]):
        folder = to / command[-1]
        with monkeypatch.context() as patched:
            for call in ("replace", "rename"):
                failing(patched, os, call, number, fails)
            argv = [command[0], str(job), *command[1:], "--to", str(folder)]
            assert main(argv) == code
        assert command == ["gallery"] or [path.name for path in folder.glob("*.*")] == ["export.json"] * (
            not first_file
        )
        stderr = capsys.readouterr().err
        assert f"{os.strerror(number)}: '{to}" in stderr and ".tmp" not in stderr and not temporaries(to)


# --- Mounted without write access ------------------------------------------------------------------------------------


@pytest.fixture
def read_only(job, tmp_path, monkeypatch):
    """A job's folder without write access. The system calls are replaced, since permissions do not apply to root."""
    out = Path(shutil.copytree(job, tmp_path / "mounted"))
    inside = lambda path: str(path).startswith(str(out))
    refused = lambda path: OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    real_open, real_os_open, real_flock = io.open, os.open, fcntl.flock

    def opened(path, mode="r", *more, **options):
        if inside(path) and set(mode) & set("wax+"):
            raise refused(path)
        return real_open(path, mode, *more, **options)

    def os_opened(path, flags, *more, **options):
        if inside(path) and flags & WRITING:
            raise refused(path)
        return real_os_open(path, flags, *more, **options)

    def flocked(file, operation):
        assert operation & fcntl.LOCK_SH or not inside(file.name), "a reader must only take shared locks"
        return real_flock(file, operation)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", opened)
    monkeypatch.setattr(os, "open", os_opened)
    monkeypatch.setattr(fcntl, "flock", flocked)
    for name in ("mkdir", "unlink", "rmdir", "rename", "replace", "utime", "chmod", "link", "symlink", "truncate"):
        failing(monkeypatch, os, name, errno.EROFS, lambda *args: any(map(inside, args)))
    return out


def test_job_can_be_read_without_write_access(read_only, job, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for folder in ([str(read_only)], ["--out", str(read_only)]):
            assert main(["status", *folder]) == DONE
            assert json.loads(capsys.readouterr().out)["running"] is False
            assert main(["verify", *folder]) == DONE and "2 of 2 shards are undamaged" in capsys.readouterr().out
        assert main(["export", str(read_only), "--format", "npz", "--to", str(tmp_path / "exported")]) == DONE
        assert len(list((tmp_path / "exported").rglob("*.npz"))) == len(frames(job))
        assert main(["gallery", str(read_only), "--to", str(tmp_path / "gallery")]) == DONE
    assert (tmp_path / "gallery" / "index.html").exists() and not (read_only / "gallery").exists()


def test_commands_that_write_to_a_read_only_folder_raise(read_only, data, tmp_path, capsys):
    assert main(["gallery", str(read_only)]) == FATAL
    stderr = capsys.readouterr().err
    assert f"'{read_only / 'gallery'}'" in stderr and "use --to DIR to write to another folder" in stderr
    assert main(["export", str(read_only), "--format", "npz"]) == FATAL  # to a folder beside it, on the same mount
    assert f"'{read_only}-npz': use --to DIR to write to another folder" in capsys.readouterr().err
    for argv in (["verify", str(read_only), "--discard"], arguments(read_only, "--resume", workers=0)):
        assert main(argv) == FATAL
        stderr = capsys.readouterr().err
        assert f"'{read_only / '.lock'}'" in stderr and "mounted without write access" in stderr


def test_status_shows_whether_ranks_run(job, tmp_path, capsys):
    out = Path(shutil.copytree(job, tmp_path / "out"))
    with hold_lock(out / ".lock", shared=True), hold_lock(out / ".lock-rank-1-of-2"):
        assert main(["status", str(out)]) == DONE
        assert json.loads(capsys.readouterr().out)["running"] is True
    assert main(["status", str(out)]) == DONE
    assert json.loads(capsys.readouterr().out)["running"] is False


# --- The job's folder and what is written from it --------------------------------------------------------------------


def test_exports_are_next_to_the_folder_by_default(job, tmp_path, monkeypatch, capsys):
    out = Path(shutil.copytree(job, tmp_path / "morphs"))
    assert main(["export", "--out", str(out), "--format", "npz"]) == DONE
    assert f"6 morphs in {tmp_path / 'morphs-npz'}" in capsys.readouterr().out
    assert len(list((tmp_path / "morphs-npz").rglob("*.npz"))) == 6
    monkeypatch.chdir(out)
    assert main(["export", ".", "--format", "safetensors"]) == DONE
    assert (tmp_path / "morphs-safetensors" / "00000.safetensors").exists()


@pytest.mark.parametrize(
    "argv, message",
    [
        (["export"], '"steerlens-fast export morphs/ --format gif --to morphs-gif/", or'),
        (["status"], '"steerlens-fast status morphs/", or "steerlens-fast status --out morphs/"'),
        (["export", "my job"], "--format must be one of safetensors, wds, folder, gif, webp, strip, npz, as in"),
        (["export", "my job"], "\"steerlens-fast export 'my job' --format gif\""),
        (["verify", "a", "--out", "b"], "DIR and --out must both be the job's folder, got a and b"),
        (["export", "a", "--out", "b"], "use --to for the folder to write"),
    ],
)
def test_messages_about_folders_and_formats_show_a_complete_command(argv, message, capsys):
    assert main(argv) == USAGE
    assert message in capsys.readouterr().err


def test_gallery_replaces_no_other_folder(job, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert main(["gallery", str(job), "--to", str(tmp_path / "mine")]) == USAGE
    assert "to must be a new folder or a gallery's" in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_temporary_files_that_cannot_be_removed_do_not_end_a_job(job, data, tmp_path, monkeypatch):
    out = Path(shutil.copytree(job, tmp_path / "out"))
    name = f".{'0123456789abcdef' * 2}.tmp"
    (out / "shards" / name).touch()
    markers(out)[0].unlink()
    failing(monkeypatch, os, "unlink", errno.EACCES, lambda path, *_: Path(path).name == name)
    assert run_here(out, "--resume") == DONE and lines(out / "failed.jsonl") == []


# --- Evaluations -----------------------------------------------------------------------------------------------------


def test_damaged_plan_or_configuration_of_an_evaluation_is_named(tmp_path):
    evaluated(tmp_path)
    for name in ("config.json", "plan.json"):
        (tmp_path / name).write_text("{")
        with pytest.raises(JobError, match=f"{name} is damaged .*: this run cannot be continued") as raised:
            evaluated(tmp_path, resume=True)
        assert raised.value.code == FATAL


@pytest.mark.parametrize("error, message", [(RuntimeError, "RuntimeError: odd"), (MemoryError, "--batch-size")])
def test_error_of_a_classifier_names_the_family_and_the_sources(error, message, tmp_path, monkeypatch):
    original_forward, calls = evaluate_models.Net.forward, []

    def forward(self, images):
        calls.append(0)
        if len(calls) > 4:  # driver and judge are called twice each to choose the sources
            raise error("odd")
        return original_forward(self, images)

    monkeypatch.setattr(evaluate_models.Net, "forward", forward)
    with pytest.raises(JobError, match=r"; raised while evaluating (pixel|noise), sources 0 to 3") as caught:
        evaluated(tmp_path)
    assert message in str(caught.value) and caught.value.code == FATAL
    monkeypatch.undo()
    assert evaluated(tmp_path, resume=True).code in (DONE, SOME_FAILED)
