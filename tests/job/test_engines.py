"""All engines write the same bytes, with any number of workers, also when one engine continues the job of another."""

import errno
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch
from job_models import (
    HERE,
    PATIENCE,
    alive,
    arguments,
    digests,
    environment,
    frames,
    kill,
    make_folder,
    make_white,
    markers,
    records,
    run_here,
    start,
    temporaries,
    wait_for,
    wait_for_end,
)

import steerlens_fast.job.run as run_module
from steerlens_fast import openmp
from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, FATAL, SOME_FAILED, TERMINATED, USAGE, JobError
from steerlens_fast.job.engines import local
from steerlens_fast.job.engines import ray as ray_engine
from steerlens_fast.job.engines.env import Rank, rank_of
from steerlens_fast.job.planning import JobInputs, check_plan

pytest.importorskip("PIL")
pytest.importorskip("safetensors")

COUNT = 50  # images: 13 shards of up to 4
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_ARRAY_TASK_ID")
RANK_VARIABLES += ("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="could not import 'ray'")


@pytest.fixture(autouse=True)
def no_rank(monkeypatch):
    """Remove the environment variables of SLURM and torchrun."""
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of images, one of which is bad."""
    folder = make_folder(tmp_path_factory.mktemp("data") / "images", COUNT)
    (folder / "c1" / "020.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory) -> dict[str, str]:
    """Digests of the results of a job in this process."""
    out = tmp_path_factory.mktemp("inprocess")
    assert run_here(out, data=data) == SOME_FAILED  # one image is bad
    return digests(out)


def test_stochastic_model_gives_the_same_bytes(tmp_path):
    """Workers, and a second run, give the same bytes, although the model uses all random number generators."""
    folder = make_folder(tmp_path / "images", 12)
    options = ("--model", "job_models:noisy_everywhere", "--regime", "live")
    results = []
    for workers in (0, 2):
        random.random(), np.random.rand(), torch.rand(1)  # the state of the caller's generators must not matter
        assert run_here(tmp_path / str(workers), *options, data=folder, workers=workers) == DONE
        results.append(digests(tmp_path / str(workers)))
    markers(tmp_path / "0")[1].unlink()
    assert run_here(tmp_path / "0", "--resume") == DONE
    assert results[0] == results[1] == digests(tmp_path / "0")
    assert run_here(tmp_path / "other", *options, "--seed", 1, data=folder, workers=0) == DONE
    assert digests(tmp_path / "other") != results[0]


def test_averaged_gradients_give_the_same_bytes(tmp_path, capsys):
    folder, options = make_folder(tmp_path / "images", 6), ("--regime", "live", "--smoothing", "noise=0.1,samples=3")
    results = []
    for workers in (0, 1):
        assert run_here(tmp_path / str(workers), *options, data=folder, workers=workers) == DONE
        results.append(digests(tmp_path / str(workers)))
    assert results[0] == results[1]
    assert json.loads((tmp_path / "0" / "config.json").read_text())["smoothing"] == {"noise": 0.1, "samples": 3}
    assert run_here(tmp_path / "plain", "--regime", "live", data=folder) == DONE
    plain = frames(tmp_path / "plain")
    assert not any(torch.equal(frame, plain[key]) for key, frame in frames(tmp_path / "0").items())
    capsys.readouterr()
    assert run_here(tmp_path / "bad", "--smoothing", "noise=-0.1", data=folder) == USAGE
    assert "smoothing's noise must be finite and at least 0, got -0.1" in capsys.readouterr().err
    assert not (tmp_path / "bad" / "config.json").exists()


@pytest.fixture
def unfinished_job(data, tmp_path) -> Path:
    """A job in which every third shard is missing."""
    out = tmp_path / "unfinished_job"
    assert run_here(out, data=data) == SOME_FAILED
    for marker in markers(out)[::3]:
        marker.unlink()
        for path in marker.parent.glob(f"{marker.name.partition('.')[0]}.*"):
            path.unlink()
    return out


# --- Worker processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_local_workers_write_the_same_bytes(workers, data, expected, tmp_path, tmp_path_factory, monkeypatch, capfd):
    """Other code that writes to the stdout of workers or reads their stdin does not disturb messages and events.

    The interpreter writes to stdout when it starts, the model writes a line like an event of a worker, and a child of
    the model reads stdin.
    """
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text('print("a site that talks")')
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("JOB_PRINT", "1")
    options = arguments(tmp_path, data=data, workers=workers, progress={1: "json", 2: "lines"}[workers])
    code, (stdout, stderr) = main(options), capfd.readouterr()
    assert code == SOME_FAILED and "talks" not in stdout, stderr
    assert digests(tmp_path) == expected and not temporaries(tmp_path)
    logs = [(tmp_path / "logs" / f"worker-{n}.log").read_text() for n in range(workers)]
    for text in ("a site that talks", "a model that talks", '{"event": "shard", "shard": 999}', "and a child of it"):
        assert any(text in log for log in logs)
    progress, summary = stderr.splitlines()
    assert f"{COUNT} of {COUNT} images done, of which 1 failed (failed.jsonl): 1 not-an-image" in summary
    if workers == 2:
        assert progress.startswith(f"{COUNT}/{COUNT} images") and progress.endswith(", 1 failed")
    else:
        last = json.loads(progress)
        assert (last["done"], last["total"], last["failed"], last["eta_seconds"]) == (COUNT, COUNT, 1, 0)


@pytest.mark.slow
def test_model_that_raises_ends_the_job_with_its_message(data, tmp_path, monkeypatch, capsys):
    images, out = Path(shutil.copytree(data, tmp_path / "images")), tmp_path / "out"
    for path in sorted(images.rglob("*.png"))[:2]:  # all images of the first batch
        make_white(path)
    monkeypatch.setenv("JOB_WHITE", "raise")
    assert run_here(out, data=images, workers=1) == FATAL
    stderr = capsys.readouterr().err
    assert "ValueError: this model does not like white" in stderr and "Traceback" not in stderr
    log = (out / "logs" / "worker-0.log").read_text()
    assert "Traceback" in log and "in _misbehave" in log and not temporaries(out)


@pytest.mark.slow
def test_shard_that_kills_its_workers_is_skipped(data, tmp_path, monkeypatch, capsys):
    """The other shards are completed, and the error names the images.

    When the model no longer exits, a resumed job completes this shard, too.
    """
    images, out = Path(shutil.copytree(data, tmp_path / "images")), tmp_path / "out"
    make_white(images / "c1" / "025.png")  # image 25: the second of shard 25 // 4 = 6
    monkeypatch.setattr(local, "ATTEMPTS", 2)
    monkeypatch.setenv("JOB_WHITE", "exit")  # with status 13
    assert run_here(out, data=images, workers=1) == FATAL
    message = capsys.readouterr().err
    assert (
        "shards [6] could not be computed: workers died 2 times while computing each; shard 6: exit status 13"
        in message
    )
    paths = [str(images / "c1" / f"{n:03d}.png") for n in (24, 25)]
    assert f"while the model computed shard 6, {paths[0]}, {paths[1]}; see " in message
    assert [path.name[:5] for path in markers(out)] == [f"{n:05d}" for n in range(13) if n != 6]
    assert (out / "logs" / "worker-0.log").read_text().count(
        "the worker ended while it had shards [6]: exit status 13 while"
    ) == 2
    monkeypatch.delenv("JOB_WHITE")
    assert run_here(out, "--resume") == SOME_FAILED
    assert run_here(tmp_path / "undisturbed", data=images) == SOME_FAILED
    assert digests(out) == digests(tmp_path / "undisturbed")


@pytest.mark.slow
def test_killed_worker_is_replaced_although_its_child_lives(data, tmp_path):
    children, out = tmp_path / "children", tmp_path / "out"
    children.mkdir()
    try:
        code, stderr = wait_for_end(
            start(arguments(out, data=data, workers=1, model="job_models:Forking"), JOB_CHILDREN=children)
        )
        pids = [int(path.name) for path in children.iterdir()]
        # The killed worker and its replacement have forked one child each
        assert len(pids) == 2 and all(map(alive, pids)), stderr
    finally:
        for path in children.iterdir():
            kill(int(path.name))
    assert code == SOME_FAILED and len(records(out)) == COUNT, stderr
    assert (out / "logs" / "worker-0.log").read_text().count(": signal SIGKILL") == 1


@pytest.mark.slow
def test_model_that_cannot_be_loaded_ends_the_job(data, tmp_path, monkeypatch, capsys):
    """The error is the same as in this process. A worker that dies in loading is started only a few times."""
    assert run_here(tmp_path / "one", data=data, model="job_models:nothing", workers=1) == USAGE
    assert "'nothing'" in capsys.readouterr().err
    (tmp_path / "deadly.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local, "ATTEMPTS", 2)
    assert run_here(tmp_path / "two", data=data, model="deadly:model", workers=1) == FATAL
    assert "workers died 2 times while they had no shard (exit status 7)" in capsys.readouterr().err


@pytest.mark.slow
def test_garbage_collection_is_off_only_during_the_loading_of_the_model(data, tmp_path):
    code = run_here(tmp_path, data=data, model="job_models:Uncollected", workers=1)
    assert code == SOME_FAILED  # Uncollected raised no error; one item is not an image


@pytest.mark.slow
def test_workers_can_import_the_modules_of_the_script(data, tmp_path):
    """The model is in a file next to the script. A folder in the working directory has the name of the package.

    The script starts the job in a thread, with the default engine.
    """
    (tmp_path / "beside.py").write_text("from job_models import classifier\n")
    (tmp_path / "elsewhere" / "steerlens_fast" / "tests").mkdir(parents=True)
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys, threading
sys.path.append({str(HERE)!r})
from steerlens_fast.job import morph_dataset
def run():
    outcome = morph_dataset({str(data)!r}, "beside:classifier", "out", channels=1, frames=4, max_l2=2, shard_size=4,
                            batch_size=2, threads=1, gallery=0, workers=1)
    print(outcome.code, outcome.summary["failed"])
thread = threading.Thread(target=run)
thread.start()
thread.join()
""")
    command = [sys.executable, str(script)]
    run = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=PATIENCE)
    assert run.stdout.split() == [str(SOME_FAILED), "1"] and not run.stderr, run.stderr
    assert len(records(tmp_path / "elsewhere" / "out")) == COUNT


def test_environment_of_workers_limits_spinning_and_keeps_freed_memory(monkeypatch):
    recorded = {}

    def popen(command, env, **_):
        recorded.update(env)
        raise FileNotFoundError

    spin, keep = {"GOMP_SPINCOUNT": "4000"}, local.KEEP_MEMORY
    cases = [({}, spin | keep), ({"OMP_WAIT_POLICY": "ACTIVE"}, keep), ({"GOMP_SPINCOUNT": "5"}, keep)]
    cases += [({"MALLOC_MMAP_MAX_": "9"}, spin), ({"STEERLENS_KEEP_FREED_MEMORY": "0"}, spin)]
    names = {*openmp.SPIN_SETTINGS, *local.ALLOCATOR_SETTINGS}
    for given, added in cases:
        recorded.clear()
        with monkeypatch.context() as patch:
            for name in names:
                patch.delenv(name, raising=False)
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(local.subprocess, "Popen", popen)
            with pytest.raises(FileNotFoundError):
                local._Process(0, "cpu", Path(os.devnull)).start()
        assert {name: value for name, value in recorded.items() if name in names} == given | added


# --- Ranks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 3])
def test_ranks_write_the_same_bytes(world, data, expected, tmp_path, monkeypatch):
    """Ranks run one after the other, rank 0 last. All use the plan of the rank that ran first.

    After the last one, the summary is complete, and what killed ranks have left is deleted.
    """
    monkeypatch.setenv("WORLD_SIZE", str(world))
    (tmp_path / ".lock").touch()
    (tmp_path / "shards").mkdir()
    for folder in (tmp_path, tmp_path / "shards"):
        (folder / f".{uuid4().hex}.tmp").write_bytes(b"incomplete")
    for number in reversed(range(world)):
        monkeypatch.setenv("RANK", str(number))
        assert run_here(tmp_path, engine="env", data=data) in (DONE, SOME_FAILED)
    assert digests(tmp_path) == expected and not temporaries(tmp_path) and main(["verify", str(tmp_path)]) == DONE
    assert run_here(tmp_path, engine="env", data=data) == SOME_FAILED  # a rank that is started again has nothing to do


@pytest.mark.slow
def test_ranks_at_the_same_time_write_the_same_bytes(data, expected, tmp_path):
    """The ranks are an array job of SLURM that counts from 1. One of them is killed and started again."""
    numbers = {"SLURM_ARRAY_TASK_MIN": 1, "SLURM_ARRAY_TASK_COUNT": 2}
    begin = lambda n: start(
        arguments(tmp_path, engine="env", data=data), SLURM_ARRAY_TASK_ID=n, **numbers, JOB_SLEEP=0.01
    )
    ranks = [begin(n) for n in (1, 2)]
    wait_for(lambda: markers(tmp_path), "a shard")
    kill(ranks[1].pid)
    codes = [wait_for_end(rank)[0] for rank in ranks]
    assert codes[1] == -9 and codes[0] in (DONE, SOME_FAILED)
    code, stderr = wait_for_end(begin(2))
    assert code == SOME_FAILED, stderr
    assert digests(tmp_path) == expected and not temporaries(tmp_path)


def test_rank_that_already_runs_raises(data, expected, tmp_path, monkeypatch, capsys):
    """Starting the same rank twice is an error, and so is starting another engine while ranks run."""
    from steerlens_fast.io.output_dir import hold_lock

    assert run_here(tmp_path, data=data) == SOME_FAILED
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with hold_lock(tmp_path / ".lock", shared=True), hold_lock(tmp_path / ".lock-rank-1-of-2"):
        assert run_here(tmp_path, engine="env") == USAGE
        assert run_here(tmp_path, "--resume") == USAGE
        assert capsys.readouterr().err.count(f"is in use by another run (process {os.getpid()} on ") == 2
        monkeypatch.setenv("RANK", "0")
        assert run_here(tmp_path, engine="env") == SOME_FAILED
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert run_here(tmp_path, engine="env") == USAGE
        assert "got 3 in rank 0, but 2 in rank 1, which also runs" in capsys.readouterr().err
    assert run_here(tmp_path, engine="env") == SOME_FAILED


def test_plan_that_a_file_system_does_not_show_yet_is_kept(data, expected, tmp_path, monkeypatch, capsys):
    """The second rank does not see the first one's plan, and cannot write its own. If the plans differ, it fails."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert run_here(tmp_path, engine="env", data=data) in (DONE, SOME_FAILED)
    before = {name: (tmp_path / name).read_bytes() for name in ("plan.json", "config.json")}
    done = markers(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(run_module, "has_plan", lambda out: False)
    assert run_here(tmp_path, engine="env", data=data, frames=5) == USAGE
    assert "frames was 4 and is 5 now" in capsys.readouterr().err
    assert before == {name: (tmp_path / name).read_bytes() for name in before} and markers(tmp_path) == done
    assert run_here(tmp_path, engine="env", data=data) == SOME_FAILED and digests(tmp_path) == expected


def test_rank_raises_if_a_folder_has_shards_but_no_plan(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert run_here(tmp_path, engine="env", data=data, limit=4) == DONE
    (tmp_path / "plan.json").unlink()
    assert run_here(tmp_path, engine="env", data=data, limit=4) == USAGE
    assert "must not have complete shards without a plan.json" in capsys.readouterr().err
    assert len(markers(tmp_path)) == 1 and not (tmp_path / "plan.json").exists()


def test_file_exists_error_of_a_data_set_ends_the_job(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")

    def items(inputs):
        raise FileExistsError(errno.EEXIST, "File exists", "cache-of-the-data")

    monkeypatch.setattr(JobInputs, "items", items)
    assert run_here(tmp_path, engine="env", data=data) == FATAL
    assert "cache-of-the-data" in capsys.readouterr().err


def test_ranks_do_not_hold_the_planning_lock_while_they_check_the_items(data, tmp_path, monkeypatch):
    from steerlens_fast.io.output_dir import is_locked

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    locked = []
    check = lambda out, inputs: locked.append(is_locked(out / ".planning")) or check_plan(out, inputs)
    monkeypatch.setattr(run_module, "check_plan", check)
    assert run_here(tmp_path, engine="env", data=data, limit=4) == DONE and locked == [False]


def test_rank_with_another_configuration_raises(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_here(tmp_path, engine="env", data=data) in (DONE, SOME_FAILED)
    monkeypatch.setenv("RANK", "1")
    assert run_here(tmp_path, engine="env", data=data, frames=5) == USAGE
    assert "frames was 4 and is 5 now" in capsys.readouterr().err
    assert run_here(tmp_path, "--overwrite", engine="env", data=data) == USAGE
    assert "overwrite must not be given with engine 'env'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environment, rank",
    [
        ({"RANK": "2", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "SLURM_PROCID": "0"}, Rank(2, 8, 2)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}, Rank(3, 4, 1)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "8"}, Rank(7, 8, 0)),
        (
            {"SLURM_ARRAY_TASK_ID": "10", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_STEP": "4"}
            | {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
            Rank(5, 6, 0),  # task (10 - 2) / 4 = 2 of 3, with 2 processes each: 2 * 2 + 1 of 6
        ),
    ],
)
def test_rank_is_read_from_the_environment(environment, rank):
    assert rank_of(environment) == rank


@pytest.mark.parametrize(
    "environment, text",
    [
        ({}, "none of them is set"),
        ({"RANK": "0"}, "WORLD_SIZE must be a whole number"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK must be a whole number in the environment, got 'one'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "must be between 0 and 1 for 2 ranks, got 2"),
        ({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "8"}, "must be between 0 and 7"),
    ],
)
def test_environment_without_a_valid_rank_raises(environment, text):
    with pytest.raises(JobError, match=text) as raised:
        rank_of(environment)
    assert raised.value.code == USAGE


@pytest.mark.parametrize("world", [1, 2, 5, 20])
def test_ranks_share_all_shards(world):
    shares = [Rank(number, world).shards(range(13)) for number in range(world)]
    assert sorted(sum(shares, [])) == list(range(13)) and max(map(len, shares)) - min(map(len, shares)) <= 1


# --- One engine after another ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_engine_continues_a_job(unfinished_job, expected, monkeypatch):
    """A job begun in this process is continued by a rank, and then by worker processes."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_here(unfinished_job, engine="env") in (DONE, SOME_FAILED)
    before = len(markers(unfinished_job))
    assert before < 13
    assert run_here(unfinished_job, "--resume", workers=2) == SOME_FAILED and digests(unfinished_job) == expected


# --- Ray -------------------------------------------------------------------------------------------------------------


def ray_actors(job: subprocess.Popen) -> list[int]:
    """Return the process ids of a job's Ray actors."""
    results = []
    for folder in Path("/proc").iterdir():
        try:
            if b"ray::_Actor" in (folder / "cmdline").read_bytes() and _under(folder, job.pid):
                results.append(int(folder.name))
        except OSError:  # the entry is no process, or the process has just ended
            continue
    return sorted(results)


def _under(folder: Path, ancestor: int) -> bool:
    """Return whether a process descends from another."""
    while folder.name.isdigit() and folder.name != "1":
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        if parent == ancestor:
            return True
        folder = folder.parent / str(parent)
    return False


@needs_ray
@pytest.mark.slow
def test_ray_continues_a_job_and_stops_when_terminated(unfinished_job, expected):
    """Ray continues a job of another engine, is terminated, and another engine continues the job."""
    job, before = (
        start(arguments(unfinished_job, "--resume", engine="ray", workers=2), JOB_SLEEP=0.1),
        len(markers(unfinished_job)),
    )
    wait_for(lambda: len(markers(unfinished_job)) > before or job.poll() is not None, "a shard of Ray's")
    actors = ray_actors(job)
    job.terminate()
    code, stderr = wait_for_end(job)
    assert code == TERMINATED and "terminated" in stderr, stderr
    wait_for(lambda: not any(map(alive, actors)), "the end of Ray's actors")
    assert run_here(unfinished_job, "--resume") == SOME_FAILED and digests(unfinished_job) == expected


def test_signals_are_deferred_during_calls_of_ray():
    """A signal handler that raises an error is called after the block."""

    def terminate(*_):
        raise KeyboardInterrupt

    before, reached = signal.signal(signal.SIGTERM, terminate), False
    try:
        with pytest.raises(KeyboardInterrupt), ray_engine._deferred_signals():
            signal.raise_signal(signal.SIGTERM)
            reached = True
        assert reached and signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGTERM, before)


@needs_ray
@pytest.mark.slow
def test_ray_actors_write_the_same_bytes_and_report_the_same_errors(data, tmp_path, monkeypatch):
    """Ray was started by the caller, and stays usable. One of two actors is killed while it works.

    Wrong usage keeps its exit status; an image for which the model raises an error is listed and left out.
    """
    images = Path(shutil.copytree(data, tmp_path / "images"))
    make_white(images / "c0" / "000.png")
    script = f"""
import json
import ray
from job_models import arguments, main
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
options = dict(engine="ray", workers=2, data={str(images)!r})
codes = [main(arguments({str(tmp_path / "one")!r}, model="job_models:nothing", **options)),
         main(arguments({str(tmp_path / "two")!r}, **options))]
print(json.dumps(codes + [ray.is_initialized()]))
"""
    monkeypatch.setenv("JOB_WHITE", "raise")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], env=environment(JOB_SLEEP=0.03), **pipes) as job:
        wait_for(lambda: len(markers(tmp_path / "two")) >= 2 or job.poll() is not None, "shards of Ray's")
        actors = ray_actors(job)
        if actors:
            kill(actors[0])
        stdout, stderr = job.communicate(timeout=PATIENCE)
    assert len(actors) == 2, stderr
    code_lines = [line for line in stdout.splitlines() if line.startswith(f"[{USAGE}")]  # Ray prints other lines
    assert json.loads(code_lines[0]) == [USAGE, SOME_FAILED, True], stderr
    failed = [json.loads(line) for line in (tmp_path / "two" / "failed.jsonl").read_text().splitlines()]
    assert "'nothing'" in stderr and [f["message"] for f in failed if f["status"] == "model-error"] == [
        "ValueError: this model does not like white"
    ]
    assert run_here(tmp_path / "here", data=images) == SOME_FAILED
    assert digests(tmp_path / "two") == digests(tmp_path / "here") and not temporaries(tmp_path / "two")
