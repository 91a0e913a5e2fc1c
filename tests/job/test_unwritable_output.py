"""A job continues if stdout, stderr or a log cannot be written."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from job_models import PATIENCE, arguments, digests, environment, make_folder, run_here
from pairwise import pairwise

import steerlens_fast.job.run as run_module
from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, FATAL, NO_SPACE, SOME_FAILED, USAGE
from steerlens_fast.io import console
from steerlens_fast.io import progress as progress_module
from steerlens_fast.io.progress import Progress
from steerlens_fast.job.engines import local

pytest.importorskip("PIL")
pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with six image files, one of which is no image."""
    images = make_folder(tmp_path_factory.mktemp("data") / "images", 6)
    (images / "c0" / "000.png").write_bytes(b"not an image")
    return images


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory) -> dict[str, str]:
    """Digests of a job whose output can be written."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert run_here(out, data=data) == SOME_FAILED
    return digests(out)


class Stream(io.StringIO):
    """A stream whose ``methods`` raise ``error``."""

    def __init__(self, error: BaseException, *methods: str):
        super().__init__()
        for method in methods:
            setattr(self, method, self.fail)
        self.error = error

    def fail(self, *_):
        raise self.error


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "the terminal is gone"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ValueError("I/O operation on closed file"),
]


# --- Progress --------------------------------------------------------------------------------------------------------


@pairwise(
    error=ERRORS,
    methods=[("write",), ("flush",), ("isatty",), ("write", "flush", "isatty")],
    kind=["auto", "bar", "lines", "json"],
)
def test_progress_that_cannot_be_written_continues(kind, methods, error, monkeypatch):
    if kind == "bar":
        pytest.importorskip("tqdm")
    monkeypatch.setattr(progress_module, "INTERVAL", 0.0)
    progress = Progress(10, kind=kind, stream=Stream(error, *methods))
    for _ in range(2):
        progress.update(5, failed=1)
    progress.close()
    assert (progress.done, progress.failed, progress.summary()["images"]) == (10, 2, 10)


@pytest.mark.parametrize("kind", ["auto", "bar", "lines", "json"])
def test_progress_without_a_stream_continues(kind, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    progress = Progress(10, kind=kind)
    progress.update(10)
    progress.close()
    assert progress.done == 10


def test_stream_that_recovers_is_written_again(monkeypatch):
    monkeypatch.setattr(progress_module, "INTERVAL", 0.0)
    stream = Stream(OSError(errno.ENOSPC, "No space left on device"), "write")
    progress = Progress(3, kind="json", stream=stream)
    progress.update(1)
    del stream.write
    progress.update(1)
    assert json.loads(stream.getvalue())["done"] == 2


@pytest.mark.parametrize("kind", ["lines", "json"])
def test_last_line_is_written_once(kind, monkeypatch):
    monkeypatch.setattr(progress_module, "INTERVAL", 0.0)
    stream = io.StringIO()
    progress = Progress(4, kind=kind, stream=stream)
    progress.update(2)
    progress.update(2)
    progress.tick()
    progress.close()
    progress.close()
    assert stream.getvalue().count("4/4" if kind == "lines" else '"done": 4') == 1


def test_characters_that_a_stream_cannot_encode_are_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert console.write_line("zwölf → not\udc80text", stream) is None
    assert stream.buffer.getvalue() == b"zw\\xf6lf \\u2192 not\\udc80text\n"


# --- Commands --------------------------------------------------------------------------------------------------------


def run(argv: list[str], redirection: str, cwd: Path, **variables) -> subprocess.CompletedProcess:
    """Run a command in bash, with ``redirection`` after it. Its exit status is written to the file "status"."""
    script = f'( "$@" ; echo $? > status ) {redirection}'
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "steerlens_fast"]
    return subprocess.run(
        [*command, *argv], cwd=cwd, env=environment(**variables), capture_output=True, timeout=PATIENCE
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "redirection, kind, workers",
    [
        ("2>/dev/full >/dev/full", "json", 0),
        ("<&- 2>&- >&-", "lines", 1),
        ("2>&1 | true", "bar", 0),
    ],
)
def test_job_succeeds_if_its_output_is_lost(redirection, kind, workers, data, expected, tmp_path):
    options = arguments(tmp_path / "out", data=data, workers=workers, progress=kind)
    run(options, redirection, tmp_path)
    assert (tmp_path / "status").read_text() == f"{SOME_FAILED}\n"
    assert digests(tmp_path / "out") == expected


def test_closed_terminal_does_not_end_a_job(data, expected, tmp_path):
    pytest.importorskip("tqdm")
    terminal, child_end = os.openpty()
    options = arguments(tmp_path / "out", data=data, workers=0)
    command = [sys.executable, "-m", "steerlens_fast", *options, "--progress", "bar"]
    process = subprocess.Popen(command, env=environment(), stderr=child_end)
    os.close(child_end)
    os.close(terminal)
    assert process.wait(PATIENCE) == SOME_FAILED and digests(tmp_path / "out") == expected


def test_job_succeeds_in_an_ascii_locale(data, tmp_path):
    images = Path(shutil.copytree(data, tmp_path / "zwölf →"))
    options = arguments(tmp_path / "außen →", data=images, workers=0, progress="lines")
    ended = run(options, "", tmp_path, LC_ALL="C", PYTHONIOENCODING="ascii:strict", PYTHONUTF8="1")
    assert (tmp_path / "status").read_text() == f"{SOME_FAILED}\n", ended.stderr
    assert b"6 of 6 images done, of which 1 failed" in ended.stderr


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_exit_status_of_a_job_does_not_depend_on_its_streams(name, error, data, tmp_path, monkeypatch):
    """The exit status of the commands verify and status depends on stdout."""
    stream = Stream(error, "write", "flush")
    stream.fileno = stream.fail
    monkeypatch.setattr(sys, name, stream)
    options = arguments(tmp_path, data=data, workers=0, progress="lines")
    assert main(options) == SOME_FAILED
    assert main([*options, "--frames", "5", "--resume"]) == USAGE  # the job has another number of frames
    expected = DONE if name == "stderr" else NO_SPACE if getattr(error, "errno", None) == errno.ENOSPC else FATAL
    assert main(["verify", str(tmp_path)]) == main(["status", str(tmp_path)]) == expected


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert run_here(out, data=data) == SOME_FAILED
    return out


COMMANDS = {
    "status": ["status", "out"],
    "verify": ["verify", "out"],
    "gallery": ["gallery", "out", "--to", "page"],
    "export": ["export", "out", "--format", "npz", "--to", "npz"],
    "info": ["info"],
    "help": ["export", "--help"],
    "version": ["--version"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "error, code, message", [(ERRORS[0], FATAL, ""), (ERRORS[1], NO_SPACE, "No space left on device")], ids=str
)
def test_stdout_that_cannot_be_written_decides_the_exit_status(
    command, error, code, message, finished, tmp_path, monkeypatch, capsys
):
    """A full device gives a message, a pipe that its reader has closed does not. The work is done in both cases."""
    shutil.copytree(finished, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    stream = Stream(error, "write", "flush")
    stream.fileno = stream.fail
    monkeypatch.setattr(sys, "stdout", stream)
    try:
        status = main(COMMANDS[command])
    except SystemExit as ended:
        status = ended.code
    assert status == code
    assert capsys.readouterr().err == (f"steerlens-fast: stdout cannot be written: {message}\n" if message else "")
    assert (tmp_path / "page" / "index.html").exists() or command != "gallery"
    assert (tmp_path / "npz").exists() or command != "export"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "command, redirection, code, message",
    [
        ("status", "| true", FATAL, ""),
        ("help", ">/dev/full", NO_SPACE, "No space left"),
        ("status", ">&-", FATAL, "Bad file"),
    ],
)
def test_exit_status_of_a_process_whose_stdout_cannot_be_written(command, redirection, code, message, finished):
    ended = run(COMMANDS[command], redirection, finished.parent, PYTHONUNBUFFERED="")
    assert (finished.parent / "status").read_text() == f"{code}\n"
    assert (message in ended.stderr.decode()) if message else not ended.stderr


def test_files_do_not_get_the_descriptors_of_closed_standard_streams(tmp_path):
    """Otherwise messages for stderr would be written to the next file that is opened after stderr was closed."""
    script = "from steerlens_fast.io.console import open_closed_descriptors as mend; import os; os.close(2); mend(); "
    script += "file = open('a', 'w'); os.write(2, b'for people'); file.write(str(file.fileno() > 2))"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "a").read_text() == "True"


# --- Logs and workers ------------------------------------------------------------------------------------------------


def test_log_that_cannot_be_written_does_not_end_a_job(data, expected, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()  # so that the folder looks like a job's
    (tmp_path / "out" / "logs").write_text("a file in the place of the folder")
    with pytest.warns(UserWarning, match=r"worker-0\.log cannot be written"):
        assert run_here(tmp_path / "out", workers=1, data=data) == SOME_FAILED
    assert digests(tmp_path / "out") == expected


def test_job_continues_without_workers_that_cannot_be_started(data, expected, tmp_path, monkeypatch):
    """The first worker is started at the second try, the second never."""
    real, tries = subprocess.Popen, []

    def popen(command, **options):
        tries.append(options["stderr"].name.rpartition("-")[2])
        if tries == ["0.log"] or tries[-1] == "1.log":
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real(command, **options)

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    monkeypatch.setattr(local, "RETRY_SECONDS", 0.0)
    with pytest.warns(UserWarning, match=r"worker process 1 cannot be started \(Resource temporarily unavailable\)"):
        assert run_here(tmp_path, workers=2, data=data) == SOME_FAILED
    assert tries == ["0.log"] * 2 + ["1.log"] * local.ATTEMPTS and digests(tmp_path) == expected


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_no_worker_at_all_is_reported(number, data, tmp_path, monkeypatch, capsys):
    def popen(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    monkeypatch.setattr(local, "RETRY_SECONDS", 0.0)
    with pytest.warns(UserWarning, match="worker process 0 cannot be started"):
        assert run_here(tmp_path, workers=2, data=data) == FATAL
    stderr = capsys.readouterr().err
    assert f"worker process 1 cannot be started ({os.strerror(number)}), and no other is running" in stderr
    assert "use --workers 0" in stderr


def test_error_of_a_thread_that_cannot_be_started_names_the_remedy(data, tmp_path, monkeypatch, capsys):
    def submit(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("steerlens_fast.job.loading.ThreadPoolExecutor.submit", submit)
    assert run_here(tmp_path, data=data) == FATAL
    assert "can't start new thread: raise the limit on processes (ulimit -u)" in capsys.readouterr().err


def test_job_needs_no_home_and_no_temporary_folder(data, expected, tmp_path):
    variables = {"HOME": "", "TMPDIR": str(tmp_path / "missing"), "XDG_CACHE_HOME": "/proc/no"}
    options = arguments(tmp_path / "out", data=data, workers=1, progress="none")
    ended = run(options, "", tmp_path, **variables)
    assert (tmp_path / "status").read_text() == f"{SOME_FAILED}\n", ended.stderr
    assert digests(tmp_path / "out") == expected


def test_ctrl_c_stops_a_job_that_cannot_write_to_stderr(data, tmp_path, monkeypatch):
    """stderr is a pipe that its reader has closed."""
    reader, writer = os.pipe()
    os.close(reader)
    saved_stderr = os.dup(2)
    os.dup2(writer, 2)
    try:
        with run_module._signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.requested
    finally:
        os.dup2(saved_stderr, 2)
        for handle in (writer, saved_stderr):
            os.close(handle)
