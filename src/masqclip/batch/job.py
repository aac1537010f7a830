"""Running a job: Ray Data streams the missing shards through the stages of `worker`.

    read (tasks) -> encode, name (actors) -> commit (an actor, whole shards)

Every stage has a pool of its own; Ray Data holds a stage back while the next one is behind, and
starts again what dies. Only rows of a few bytes come back to the driver, and it works in rounds,
so its memory does not grow with the number of pictures.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from masqclip.batch.addresses import readable_name
from masqclip.batch.manifest import Entry
from masqclip.batch.parts import PART
from masqclip.batch.shards import JobFolder, JobSettings, Status
from masqclip.batch.storage import StorageError
from masqclip.batch.worker import Encoder, EncoderAndNamer, Namer, read_shard
from masqclip.errors import MasqclipError, require

SHARDS_PER_ROUND = 4096
LOCAL_STORE_BYTES = 256 << 20  # of Ray's shared memory, for each worker of a local run
COMMITS_AT_A_TIME = 4
#: Nothing is reported to anyone, and what people cannot act on is not printed.
QUIET_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

ASKS_FOR_TOKEN = "if it asks for a token, set RAY_AUTH_MODE=token here too (docs/scale.md)"


@dataclass(frozen=True)
class Machines:
    """Where a job runs.

    Attributes:
        address: of a Ray cluster, or ``auto``; None = this machine alone.
        workers: how many models encode at a time; None = one a GPU, or without GPUs one a core.
        device: None = a GPU for each worker where there are GPUs.
        object_store: bytes of shared memory for a local run; None = enough for its workers.
    """

    address: str | None = None
    workers: int | None = None
    device: str | None = None
    object_store: int | None = None


def run_job(
    folder: JobFolder,
    machines: Machines | None = None,
    report: Callable[[int, str], None] = lambda done, note: None,
) -> Status:
    """Do the shards of a planned job that are missing.

    Args:
        folder: of the job; the caller holds it (`lock_job`).
        machines: where it runs.
        report: is told after each shard how many are settled, and of how many bad pictures.

    Returns:
        The status at the end; shards that failed three times are in its ``failed``.

    Raises:
        MasqclipError: there is no such cluster, or results cannot be written.
    """
    missing = folder.missing()
    if missing:
        settings, shards, _ = folder.read()
        folder.start()
        with connected(machines or Machines(), most=len(missing)) as pools:
            settled, errors = shards - len(missing), 0
            for at in range(0, len(missing), SHARDS_PER_ROUND):
                for bad in _round(folder, settings, missing[at : at + SHARDS_PER_ROUND], pools):
                    settled, errors = settled + 1, errors + bad
                    report(settled, f"{errors} bad pictures" if errors else "")
        folder.start()
    return folder.status()


@dataclass(frozen=True)
class Pools:
    """The sizes of the stages' pools, and what Ray keeps for each of their members.

    A GPU is shared by an encoder and a namer, so that it need not wait for words. On processors
    there is nothing to wait for, and one process does both with one model.

    Attributes:
        name: None = the encoders name as well.
    """

    workers: int
    device: str | None
    threads: int
    readers: int
    read: dict[str, Any]
    encode: dict[str, Any]
    name: dict[str, Any] | None = None

    @classmethod
    def fit(cls, machines: Machines, cpus: int, gpus: int, most: int) -> Pools:
        """Pools for so many cores and GPUs, and at most so many shards at a time."""
        if machines.device is not None and not machines.device.startswith("cuda"):
            gpus = 0
        workers = max(1, min(machines.workers or gpus or cpus, most))
        if gpus:
            return cls(
                workers=workers,
                device="cuda",
                threads=1,
                readers=max(1, cpus - 2 * workers),
                read={"num_cpus": 1},
                encode={"num_cpus": 1, "num_gpus": 0.75 * min(1.0, gpus / workers)},
                name={"num_cpus": 1, "num_gpus": 0.25 * min(1.0, gpus / workers)},
            )
        share = min(1.0, cpus / workers)
        return cls(
            workers=workers,
            device=machines.device or "cpu",
            threads=max(1, cpus // workers),
            readers=workers,
            read={"num_cpus": 0.1 * share},
            encode={"num_cpus": 0.9 * share},
        )


@contextmanager
def connected(machines: Machines, most: int) -> Iterator[Pools]:
    """Join a Ray cluster, or start one on this machine, until the block ends."""
    for name, value in QUIET_RAY.items():
        os.environ.setdefault(name, value)
    ray: Any = require("ray", extra="batch", purpose="masqclip batch")
    options: dict[str, Any] = {"address": machines.address}
    if machines.address is None:
        cpus = os.cpu_count() or 1
        workers = machines.workers or cpus
        options = {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": machines.object_store or LOCAL_STORE_BYTES * (workers + 1),
        }
    else:
        _check_address(machines.address)
    try:
        with _text_of_command_line():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        if machines.address is None:
            raise MasqclipError(f"Ray cannot start on this machine ({reason})") from error
        # Ray sends a token to an address only when told to, and then says nothing of tokens.
        token = "" if "RAY_AUTH_MODE" in os.environ else f"; {ASKS_FOR_TOKEN}"
        raise MasqclipError(
            f"--ray-address {machines.address}: no Ray cluster answers ({reason}{token})"
        ) from error
    try:
        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        yield Pools.fit(machines, cpus, gpus, most)
    finally:
        ray.shutdown()


@contextmanager
def _text_of_command_line() -> Iterator[None]:
    """Ray notes the command line, and fails where the name of a file in it is not UTF-8."""
    utils: Any = importlib.import_module("ray._private.utils")
    noted = getattr(utils, "get_entrypoint_name", None)
    if noted is None:  # in another version
        yield
        return
    utils.get_entrypoint_name = lambda: readable_name(noted())
    try:
        yield
    finally:
        utils.get_entrypoint_name = noted


def _check_address(address: str) -> None:
    """Ray itself tries an address where nobody answers for minutes; ten seconds are enough."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return  # "auto", and whatever else only Ray can resolve
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise MasqclipError(
            f"--ray-address {address}: no Ray cluster answers ({error.strerror or error})"
        ) from error


class Committer:
    """The last stage: an actor whose threads put whole shards together."""

    def __init__(self, folder: JobFolder, settings: JobSettings) -> None:
        self.folder, self.settings = folder, settings

    def commit(self, shard: int, parts: int) -> Entry:
        """See `JobFolder.commit`."""
        return self.folder.commit(shard, parts, self.settings)


def _round(
    folder: JobFolder, settings: JobSettings, shards: list[int], pools: Pools
) -> Iterator[int]:
    """Do these shards; the number of bad pictures of each, as it is settled."""
    import ray

    committer = ray.remote(
        num_cpus=0, max_restarts=-1, max_task_retries=3, max_concurrency=COMMITS_AT_A_TIME
    )(Committer).remote(folder, settings)
    parts: dict[int, int] = defaultdict(int)  # shard -> parts that are written
    whole: dict[int, int] = {}  # shard -> parts in all, once the last is there
    given_up: set[int] = set()
    commits: list[Any] = []
    for row in _rows(_stages(folder, settings, shards, pools)):
        shard = row["shard"]
        if shard in given_up:
            continue
        if row["failure"] is not None:
            given_up.add(shard)
            folder.give_up(shard, row["failure"])
            yield 0
            continue
        parts[shard] += 1
        if row["last"]:
            whole[shard] = row["part"] + 1
        if parts[shard] == whole.get(shard):
            commits.append(committer.commit.remote(shard, parts.pop(shard)))
        if commits:
            waiting = len(commits) > COMMITS_AT_A_TIME
            ready, commits = ray.wait(commits, timeout=None if waiting else 0)
            yield from (entry.errors for entry in _results(ready))
    yield from (entry.errors for entry in _results(commits))


def _results(references: list[Any]) -> list[Entry]:
    import ray

    try:
        return ray.get(references)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MasqclipError):
            raise MasqclipError(str(error.cause)) from error
        raise MasqclipError(f"a shard cannot be written ({error.cause})") from error


def _stages(folder: JobFolder, settings: JobSettings, shards: list[int], pools: Pools) -> Any:
    """The stages over these shards, not started yet."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.target_max_block_size = 1  # a part is a block, so that parts spread over the actors
    rows = [{"shard": shard} for shard in shards]
    one_part = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        read_shard,
        fn_kwargs={"folder": folder, "settings": settings},
        compute=ray.data.TaskPoolStrategy(size=pools.readers),
        **one_part,
        **pools.read,
    )
    actors = {
        "fn_constructor_args": (folder, settings, pools.device, pools.threads),
        **one_part,
    }
    workers = ray.data.ActorPoolStrategy(size=pools.workers)
    if settings.kind == "embeddings":
        return dataset.map_batches(Namer, compute=workers, **actors, **pools.encode)
    if settings.vocabulary is None:
        return dataset.map_batches(Encoder, compute=workers, **actors, **pools.encode)
    if pools.name is None:
        return dataset.map_batches(EncoderAndNamer, compute=workers, **actors, **pools.encode)
    # Naming takes a tenth of the time of encoding: a namer keeps up with two encoders at least.
    namers = ray.data.ActorPoolStrategy(min_size=1, max_size=-(-pools.workers // 2))
    dataset = dataset.map_batches(Encoder, compute=workers, **actors, **pools.encode)
    return dataset.map_batches(Namer, compute=namers, **actors, **pools.name)


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """What comes out of the last stage: a row a part, as each is done."""
    import ray

    columns = [name for name in PART.names if name != "payload"]
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from batch.select(columns).to_pylist()
    except ray.exceptions.RayError as error:
        # A model that cannot be loaded, or a name that it cannot read: every worker says the same.
        kinds = f"(?:{MasqclipError.__name__}|{StorageError.__name__})"
        told = re.findall(rf"{kinds}: (.*)", str(error))
        if not told:
            raise
        raise MasqclipError(told[-1].strip()) from error
