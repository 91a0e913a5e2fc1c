"""Jobs that are killed, or whose disk is full, lose no complete shards and leave no processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job_models import (
    PATIENCE,
    alive,
    arguments,
    children,
    digests,
    environment,
    kill,
    lines,
    make_folder,
    markers,
    run_here,
    start,
    temporaries,
    wait_for,
    wait_for_end,
)

from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, INTERRUPTED, NO_SPACE, TERMINATED, USAGE

pytest.importorskip("PIL")
pytest.importorskip("safetensors")

COUNT = 90  # images: 23 shards
# Seconds of a forward pass. Each of a shard's two batches has four passes: one for the gradient, three for frames.
SLOW = 0.02

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "images", COUNT)


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory) -> dict[str, str]:
    """Digests of a job without interruptions."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert run_here(out, data=data) == DONE
    return digests(out)


def begin(out: Path, data: Path, *more, **options) -> subprocess.Popen:
    """Start a slow job."""
    return start(arguments(out, *more, data=data, **options), JOB_SLEEP=SLOW)


def runs_after(out: Path, process: subprocess.Popen, shards: int, delay: float) -> bool:
    """Wait until ``shards`` more shards are done, and then ``delay`` seconds; return whether the job still runs."""
    count = len(markers(out)) + shards
    wait_for(lambda: len(markers(out)) >= count or process.poll() is not None, f"{count} shards in {out}")
    time.sleep(delay)
    return process.poll() is None


def wait_until_ended(pids: list[int]) -> None:
    wait_for(lambda: not any(map(alive, pids)), f"the end of processes {pids}")


def check_complete(out: Path, expected: dict[str, str]) -> None:
    assert digests(out) == expected
    keys = [record["key"] for record in lines(out / "manifest.jsonl")]
    assert len(keys) == len(set(keys)) == COUNT
    assert not temporaries(out) and main(["verify", str(out)]) == DONE


# --- SIGKILL (test_engines.py kills one of several ranks, and an actor of Ray's) -------------------------------------


def test_killed_workers_are_replaced(data, expected, tmp_path):
    """One worker is killed before it has loaded the model, one while it computes. The job completes."""
    rng = random.Random(1)
    job = begin(tmp_path, data, workers=2)
    wait_for(lambda: len(children(job)) == 2, "two workers")
    kill(rng.choice(children(job)))
    assert runs_after(tmp_path, job, 1 + rng.randrange(3), rng.uniform(0, 0.2)), wait_for_end(job)
    kill(rng.choice(children(job)))
    code, stderr = wait_for_end(job)
    assert code == DONE, stderr
    notes = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert notes.count(": signal SIGKILL") == 2
    check_complete(tmp_path, expected)


def test_killed_main_process_loses_nothing(data, expected, tmp_path):
    """The main process is killed before it has a plan, and again later. Its workers end, too."""
    rng = random.Random(2)
    job = begin(tmp_path, data, workers=1)
    wait_for(lambda: children(job), "a worker")
    for n in range(2):
        if n:
            assert runs_after(tmp_path, job, 1 + rng.randrange(3), rng.uniform(0, 0.2))
        workers = children(job)
        kill(job.pid)
        wait_for_end(job)
        wait_until_ended(workers)
        done = {path.name: path.stat().st_mtime_ns for path in markers(tmp_path)}
        job = begin(tmp_path, data, "--resume", workers=2 - n)
    code, stderr = wait_for_end(job)
    assert code == DONE, stderr
    assert done.items() <= {path.name: path.stat().st_mtime_ns for path in markers(tmp_path)}.items()
    check_complete(tmp_path, expected)


def test_killed_process_without_workers_loses_nothing(data, expected, tmp_path):
    """The killed process is first a job without workers, then a rank."""
    rng = random.Random(3)
    job = begin(tmp_path, data, workers=0)
    for shards in (3, 5):
        assert runs_after(tmp_path, job, shards, rng.uniform(0, 0.2))
        kill(job.pid)
        wait_for_end(job)
        job = start(arguments(tmp_path, engine="env"), JOB_SLEEP=SLOW, RANK=0, WORLD_SIZE=1)
    code, stderr = wait_for_end(job)
    assert code == DONE, stderr
    check_complete(tmp_path, expected)


# --- Signals that a process can handle -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_finishes_the_current_shards(workers, data, expected, tmp_path):
    job = begin(tmp_path, data, workers=workers)
    assert runs_after(tmp_path, job, 2, 0.05)
    processes, done = children(job), len(markers(tmp_path))
    job.send_signal(signal.SIGINT)
    code, stderr = wait_for_end(job)
    assert code == INTERRUPTED and "Ctrl-C again stops at once" in stderr and f"of {COUNT} images done" in stderr
    wait_until_ended(processes)
    assert done < len(markers(tmp_path)) < 23 and not temporaries(tmp_path)
    files = [path for path in (tmp_path / "shards").iterdir() if not path.name.endswith(".done.json")]
    assert len(files) == 2 * len(markers(tmp_path))  # shards that have begun are finished and have a marker
    assert len(lines(tmp_path / "manifest.jsonl")) == 4 * len(markers(tmp_path))
    assert run_here(tmp_path, "--resume") == DONE
    check_complete(tmp_path, expected)


@pytest.mark.parametrize("signals, code", [([signal.SIGINT] * 2, INTERRUPTED), ([signal.SIGTERM], TERMINATED)])
def test_second_ctrl_c_or_sigterm_ends_a_job_at_once(signals, code, data, expected, tmp_path):
    """The job does not wait for the current shard, which takes a minute."""
    job = start(arguments(tmp_path, data=data, workers=1), JOB_SLEEP=8)
    begun = time.monotonic()
    wait_for(lambda: (tmp_path / "plan.json").exists() and children(job), "a plan")
    time.sleep(1.0)
    processes = children(job)
    for number in signals:
        job.send_signal(number)
        time.sleep(0.5)
    actual, stderr = wait_for_end(job)
    assert actual == code and ("interrupted" in stderr or "terminated" in stderr), stderr
    wait_until_ended(processes)
    assert time.monotonic() - begun < PATIENCE / 2 and not markers(tmp_path) and not temporaries(tmp_path)
    assert run_here(tmp_path, "--resume") == DONE
    check_complete(tmp_path, expected)


# --- Two at once -----------------------------------------------------------------------------------------------------


def test_second_job_on_the_same_output_raises(data, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    job = begin(tmp_path, data, workers=1)
    assert runs_after(tmp_path, job, 1, 0)
    job.send_signal(signal.SIGSTOP)  # a fast machine would be done before the other jobs try the lock
    for more in (["--resume"], ["--overwrite"], ["--engine", "env"], []):
        assert run_here(tmp_path, *more, data=data) == USAGE
        assert f"is in use by another run (process {job.pid} on " in capsys.readouterr().err
    assert main(["verify", str(tmp_path), "--discard"]) == USAGE
    capsys.readouterr()
    assert main(["status", str(tmp_path)]) == DONE
    assert json.loads(capsys.readouterr().out)["running"] is True
    job.terminate()
    job.send_signal(signal.SIGCONT)
    assert wait_for_end(job)[0] == TERMINATED
    assert main(["status", str(tmp_path)]) == DONE
    assert json.loads(capsys.readouterr().out)["running"] is False
    assert run_here(tmp_path, "--resume") == DONE
    check_complete(tmp_path, expected)


# --- A full disk -----------------------------------------------------------------------------------------------------


FULL_DISK = """
import json, subprocess, sys
from pathlib import Path
from job_models import arguments, digests, main, markers, temporaries
folder, results = Path(sys.argv[1]), {}
for kind, workers, limit in (("safetensors", 1, 180), ("wds", 0, 60), ("folder", 0, 16)):  # each needs over 1 MiB
    out = folder / kind
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out], check=True)
    options = dict(data=folder / "images", format=kind, frames=24, limit=limit, score="none", progress="none")
    code = main(arguments(out, workers=workers, **options))
    names = [path.name for path in (out / "shards").iterdir()]
    results[kind] = [code, [path.name for path in markers(out)], temporaries(out), names]
    subprocess.run(["mount", "-o", "remount,size=64m", out], check=True)
    results[kind].append(main(arguments(out, "--resume", "--workers", 0, "--progress", "none")))
    main(arguments(out / "undisturbed", workers=0, **options))
    whole = digests(out / "undisturbed")
    results[kind].append(whole == {name: digest for name, digest in digests(out).items() if name in whole})
(folder / "results.json").write_text(json.dumps(results))
"""


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
    """Results of a job of each format on a full disk.

    The disk has 1 MiB, less than the job needs, and is mounted in a namespace.
    """
    folder = tmp_path_factory.mktemp("disk")
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    trial = [*namespace, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    make_folder(folder / "images", 180)
    command = [*namespace, sys.executable, "-c", FULL_DISK, str(folder)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "results.json").read_text()), run.stderr


@pytest.mark.parametrize("kind", ["safetensors", "wds", "folder"])
def test_job_ends_on_a_full_disk_and_continues_once_there_is_space(kind, full_disk):
    results, errors = full_disk
    code, marked, left_over, names, resumed, same = results[kind]
    assert code == NO_SPACE and errors.count("no space left") == 3, errors  # once for each format
    assert marked and not left_over
    done = {name.partition(".")[0] for name in marked}
    suffixes = {name.partition(".")[2] for name in names if name.partition(".")[0] not in done}
    # A shard without a marker may have its file of frames, or its files of frames and of records.
    assert suffixes <= {"safetensors", "tar", "", "jsonl"}
    assert resumed == 0 and same
