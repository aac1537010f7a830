"""What `masqclip batch` must keep: output, pace, memory, and results that survive any kill.

    masqclip data stickers --sprites sprites --images 2000 --seed 2000 --out scenes
    python benchmarks/batch.py pace scenes/images         # equal output, throughput, memory, stages
    python benchmarks/batch.py stages scenes/images       # what each stage costs an image
    python benchmarks/batch.py kill scenes/images         # kill -9 of a worker, then of the driver
    python benchmarks/batch.py corrupt scenes/images      # 1 % broken inputs, six kinds
    python benchmarks/batch.py embeddings scenes/images   # a second vocabulary, without the images
    python benchmarks/batch.py cluster scenes/images      # two nodes started by "ray start"

Each prints one JSON document. The machine may be shared: next to seconds by the clock there are
processor seconds of all processes of a run, which other people's work changes little.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from masqclip.batch.shards import JobFolder
from processes import Processes

VOCABULARY = "stickers"
OTHER_VOCABULARY = "rocket, tulip, car, snake, penguin, stuff: sand"
SHARD = int(os.environ.get("SHARD", "50"))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "masqclip.cli.main", *words]


def run_batch(*words: str, watch: bool = True) -> dict[str, Any]:
    """One `masqclip batch`, timed and watched."""
    start = time.monotonic()
    process = subprocess.Popen(
        command("batch", *words, "-q"), stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    watched = Processes(process.pid) if watch else None
    _, errors = process.communicate()
    seconds = time.monotonic() - start
    return {
        "exit": process.returncode,
        "seconds": round(seconds, 1),
        "errors": errors.strip().splitlines()[-3:],
        **(watched.stop() if watched else {}),
    }


def digests(folder: Path) -> dict[str, str]:
    """What a job left, but for the plan of work: every file's SHA-256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "job.json"
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(folder / "shards").to_pylist()


def some(images: Path, number: int, folder: Path) -> Path:
    """A folder with the first so many pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(images.iterdir())[:number]:
        shutil.copy(path, folder / path.name)
    return folder


def calm(folder: Path, work: Path, words: list[str]) -> dict[str, Any]:
    """An undisturbed run; one that an earlier command left in the same --work serves again."""
    if JobFolder(str(work / "calm")).is_planned():
        return {"seconds": "see the first command"}
    return run_batch(*words, "-o", str(work / "calm"))


# One process, as good as it gets: what `masqclip batch` is compared with


def single(images: Path, out: Path, batch_size: int) -> dict[str, Any]:
    """`Segmenter.stream` with all cores, writing the same Parquet."""
    import pyarrow as pa
    import torch

    from masqclip import Segmenter
    from masqclip.batch.records import RECORDS, result_record, write_parquet

    torch.set_num_threads(os.cpu_count() or 1)
    segmenter = Segmenter.from_pretrained(device="cpu")
    paths = sorted(images.iterdir())
    out.mkdir(parents=True, exist_ok=True)
    start, cpu = time.monotonic(), time.process_time()
    for shard, at in enumerate(range(0, len(paths), SHARD)):
        block = paths[at : at + SHARD]
        results = segmenter.stream(block, VOCABULARY, batch_size=batch_size)
        found = [result_record(str(p), r) for p, r in zip(block, results, strict=True)]
        with open(out / f"{shard:08d}.parquet", "wb") as file:
            write_parquet(file, RECORDS, [pa.Table.from_pylist(found, schema=RECORDS)])
    seconds = time.monotonic() - start
    return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "images": len(paths)}


def pace(images: Path, work: Path, rounds: int, batch_size: int) -> dict[str, Any]:
    """One process and a local Ray cluster in turn, on slices of the same pictures."""
    paths = sorted(images.iterdir())
    slices = [
        paths[len(paths) * i // rounds : len(paths) * (i + 1) // rounds] for i in range(rounds)
    ]
    alone: list[dict[str, Any]] = []
    for i, part in enumerate(slices):
        folder = work / f"slice{i}"
        folder.mkdir(parents=True)
        for path in part:
            os.link(path, folder / path.name)
    document: dict[str, Any] = {"load_before": os.getloadavg()}

    def measure_alone(i: int) -> None:
        words = ["single", str(work / f"slice{i}"), "--out", str(work / "single")]
        began = time.monotonic()
        text = subprocess.run(
            [sys.executable, __file__, *words, "--batch-size", str(batch_size)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())},
        ).stdout
        (work / "single").rename(work / f"single{i}")
        one = json.loads(text)
        alone.append(one | {"start": time.monotonic() - began - one["seconds"]})

    for i in range(rounds // 2):
        measure_alone(i)
    document["batch"] = run_batch(
        str(images), "-v", VOCABULARY, "-o", str(work / "out"), "--shard-size", str(SHARD)
    )
    for i in range(rounds // 2, rounds):
        measure_alone(i)
    seconds = sum(one["seconds"] for one in alone)
    cpu = sum(one["cpu_seconds"] for one in alone)
    document["single"] = {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "runs": alone}
    begin = min(one["start"] for one in alone)  # Python, torch, the model: once for all pictures
    document["whole_ratio"] = round((seconds + begin) / document["batch"]["seconds"], 3)
    document["cpu_ratio"] = round(cpu / document["batch"]["cpu_seconds_all"], 3)
    document["steady_ratio"] = round(steady(work / "out") * seconds / len(paths), 3)
    expected = {}
    for i in range(rounds):
        for row in _read(work / f"single{i}"):
            expected[Path(row["key"]).name] = row
    found = {Path(row["key"]).name: row for row in rows(work / "out")}
    document["equal"] = compare(expected, found)
    document["load_after"] = os.getloadavg()
    return document


def steady(out: Path) -> float:
    """Images a second between the first and the last shard: without the start and the end."""
    times = sorted(path.stat().st_mtime for path in (out / "_manifest").iterdir())
    return (len(times) - 1) * SHARD / (times[-1] - times[0])


def _read(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(folder).to_pylist()


def compare(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """How two runs' rows differ."""
    from masqclip.data.rle import decode_rle

    same = exact = 0
    score = pixels = 0.0
    for name, row in expected.items():
        a, b = row["segments"], found[name]["segments"]
        if [(s["name"], s["thing"]) for s in a] != [(s["name"], s["thing"]) for s in b]:
            continue
        same += 1
        exact += all(s["segmentation"] == t["segmentation"] for s, t in zip(a, b, strict=True))
        for s, t in zip(a, b, strict=True):
            score = max(score, abs(s["score"] - t["score"]))
            if s["segmentation"] != t["segmentation"]:
                changed = decode_rle(s["segmentation"]) != decode_rle(t["segmentation"])
                pixels = max(pixels, float(changed.mean()))
    return {
        "images": len(expected),
        "missing": len(expected.keys() - found.keys()),
        "same_segments": same,
        "identical_masks": exact,
        "largest_score_difference": score,
        "largest_share_of_pixels": pixels,
    }


def kill(images: Path, work: Path, number: int) -> dict[str, Any]:
    """kill -9 of an encoder, then of the driver; the rerun must equal an undisturbed run."""
    folder = some(images, number, work / "images")
    words = [str(folder), "-v", VOCABULARY, "--shard-size", str(SHARD)]
    document: dict[str, Any] = {"undisturbed": calm(folder, work, words)}
    out = work / "killed"
    # Ray tells of the worker's death on standard output, where the document is to stand alone.
    process = subprocess.Popen(command("batch", *words, "-o", str(out), "-q"), stdout=sys.stderr)
    watched = Processes(process.pid)
    while len(list((out / "_manifest").glob("*"))) < 1 if out.exists() else True:
        time.sleep(0.2)
    victim = next(pid for pid, title in watched.tree().items() if title == "Encoder")
    os.kill(victim, signal.SIGKILL)
    document["worker_killed_after_shards"] = len(list((out / "_manifest").glob("*")))
    shards = -(-number // SHARD)
    while len(list((out / "_manifest").glob("*"))) < shards // 2:
        time.sleep(0.1)
    document["worker_replaced"] = sum(title == "Encoder" for title in watched.tree().values()) > 1
    process.kill()
    process.wait()
    watched.stop()
    document["driver_killed_after_shards"] = len(list((out / "_manifest").glob("*")))
    time.sleep(5)  # Ray's own processes follow their driver
    document["rerun"] = run_batch(*words, "-o", str(out))
    keys = [row["key"] for row in rows(out)]
    document["images_twice"] = len(keys) - len(set(keys))
    document["images_missing"] = number - len(set(keys))
    document["bytes_equal"] = digests(work / "calm") == digests(out)
    return document


def corrupt(images: Path, work: Path, number: int) -> dict[str, Any]:
    """1 % of the inputs broken in six ways; the rest must be as without them."""
    folder = some(images, number, work / "images")
    words = [str(folder), "-v", VOCABULARY, "--shard-size", str(SHARD)]
    undisturbed = calm(folder, work, words)
    names = sorted(path.name for path in folder.iterdir())
    listed = [str(folder / name) for name in names]
    spoiled = random.Random(0).sample(names, max(6, number // 100))
    kinds = {}
    for n, name in enumerate(spoiled):
        kinds[name] = list(SPOIL)[n % len(SPOIL)]
        SPOIL[kinds[name]](folder / name)
    (work / "list.txt").write_text("\n".join(listed))
    run = run_batch(
        str(work / "list.txt"), "-v", VOCABULARY, "-o", str(work / "corrupt"),
        "--shard-size", str(SHARD),
    )  # fmt: skip
    found = {Path(row["key"]).name: row for row in rows(work / "corrupt")}
    intact = {Path(row["key"]).name: row for row in rows(work / "calm")}
    return {
        "runs": [undisturbed, run],
        "rows": len(found),
        "broken": {name: (kinds[name], found[name]["error"]) for name in spoiled},
        "all_reported": all(found[name]["error"] for name in spoiled),
        "others_with_error": sum(
            row["error"] is not None for name, row in found.items() if name not in kinds
        ),
        "rest": compare({n: r for n, r in intact.items() if n not in kinds}, found),
    }


def _bomb(path: Path) -> None:
    from PIL import Image

    Image.new("1", (10_000, 10_000)).save(path, "PNG")


SPOIL = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("this is no picture\n" * 50),
    "another format's bytes": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(5000)),
    "bomb": _bomb,
    "missing": lambda path: path.unlink(),
}


def embeddings(images: Path, work: Path, number: int, model: str | None = None) -> dict[str, Any]:
    """A second vocabulary from images and from kept embeddings; the results must be the same."""
    folder = some(images, number, work / "images")
    size = ["--shard-size", str(SHARD)]
    if model is not None:
        size += ["--model", model]
    keep = run_batch(
        str(folder), "-v", VOCABULARY, "-o", str(work / "first"), "--save-embeddings", *size
    )
    images_run = run_batch(str(folder), "-v", OTHER_VOCABULARY, "-o", str(work / "again"), *size)
    kept_run = run_batch(str(work / "first"), "-v", OTHER_VOCABULARY, "-o", str(work / "second"))
    paces = {name: steady(work / name) for name in ("again", "second")}
    results = [{Path(r["key"]).name: r for r in rows(work / n)} for n in ("again", "second")]
    kept = sum(path.stat().st_size for path in (work / "first" / "embeddings").iterdir())
    return {
        "saving": keep,
        "from_images": images_run,
        "from_embeddings": kept_run,
        "equal": compare(*results),
        "times_faster": round(images_run["seconds"] / kept_run["seconds"], 1),
        "times_faster_without_start": round(paces["second"] / paces["again"], 1),
        "kilobytes_an_image": round(kept / number / 1000, 1),
    }


def cluster(images: Path, work: Path, number: int) -> dict[str, Any]:
    """Two nodes of a core each, started apart; the same command, with --ray-address."""
    folder = some(images, number, work / "images")
    words = [str(folder), "-v", VOCABULARY, "--shard-size", str(SHARD)]
    undisturbed = calm(folder, work, words)
    ray = str(Path(sys.executable).parent / "ray")
    node = ["--num-cpus=1", "--object-store-memory=300000000", "--disable-usage-stats", "--block"]
    address = "127.0.0.1:6399"
    os.environ["RAY_AUTH_MODE"] = "token"  # as on any network that others reach; see docs/scale.md
    subprocess.run([ray, "get-auth-token", "--generate"], check=True, capture_output=True)
    nodes = []
    try:
        for words_of_node in (["--head", "--port=6399", "--include-dashboard=false"],
                              [f"--address={address}"]):  # fmt: skip
            nodes.append(
                subprocess.Popen([ray, "start", *words_of_node, *node], stdout=subprocess.DEVNULL)
            )
            time.sleep(15)
        run = run_batch(*words, "-o", str(work / "cluster"), "--ray-address", address)
    finally:
        for process in reversed(nodes):
            process.terminate()
            process.wait()
    return {
        "alone": undisturbed,
        "two_nodes": run,
        "bytes_equal": digests(work / "calm") == digests(work / "cluster"),
    }


def stages(images: Path, work: Path, number: int) -> dict[str, Any]:
    """What each stage costs an image, in one thread: milliseconds of the processor, and bytes."""
    import pyarrow as pa
    import torch
    from PIL import Image

    from masqclip.batch import worker
    from masqclip.batch.inputs import list_items
    from masqclip.batch.shards import JobSettings
    from masqclip.batch.worker import FLOATS_PER_PIXEL, Encoder, Namer, Part, read_shard
    from masqclip.clip.vocabulary import Vocabulary

    folder = some(images, number, work / "images")
    kind, items = list_items([str(folder)])
    items = list(items)
    found: dict[str, Any] = {}
    for keep in (False, True):
        settings = JobSettings(
            (str(folder),), kind, "masqclip-mini", Vocabulary.parse(VOCABULARY),
            save_embeddings=keep, shard_size=number,
        )  # fmt: skip
        job = JobFolder(str(work / f"job{keep}"))
        job.plan(settings, items)
        encoder, namer = Encoder(job, settings, "cpu", 1), Namer(job, settings, "cpu", 1)
        reader = read_shard(pa.table({"shard": [0]}), folder=job, settings=settings)
        clocks: list[float] = []
        spent, parts, handed = [0.0] * 4, 0, 0
        while True:
            clocks = [time.process_time()]
            row = next(reader, None)
            if row is None:
                break
            clocks.append(time.process_time())
            encoded = encoder(row)
            clocks.append(time.process_time())
            done = namer(encoded)
            clocks.append(time.process_time())
            assert Part.from_row(done).failure is None
            spent[:3] = [t + b - a for t, a, b in zip(spent, clocks, clocks[1:], strict=False)]
            handed, parts = handed + encoded.nbytes, parts + 1
        job.commit(0, parts, settings)
        spent[3] = time.process_time() - clocks[0]
        names = ["read and decode", "encode", "name", "commit"]
        found["embeddings kept" if keep else "embeddings not kept"] = {
            name: round(1e3 * t / number, 2) for name, t in zip(names, spent, strict=True)
        }
    # A photograph's size on the wire and what it takes to decode, for the model of costs.
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 60, 80, generator=generator)
    photo = torch.nn.functional.interpolate(coarse, size=(480, 640), mode="bicubic").clamp(0, 1)
    noisy = (photo + 0.05 * torch.randn(photo.shape, generator=generator)).clamp(0, 1)
    path = work / "photo.jpg"
    Image.fromarray((noisy[0].permute(1, 2, 0) * 255).byte().numpy()).save(path, quality=90)
    at = time.process_time()
    for _ in range(40):
        worker.read_image(path.read_bytes())
    jpeg = (time.process_time() - at) / 40
    files = {
        name: (work / "jobTrue" / name / "00000000.parquet") for name in ("shards", "embeddings")
    }
    return {
        "milliseconds_an_image": found,
        "bytes_an_image": {k: round(v.stat().st_size / number) for k, v in files.items()},
        "bytes_between_encode_and_name": round(handed / number),
        "jpeg_640x480": {"milliseconds": round(1e3 * jpeg, 2), "bytes": path.stat().st_size},
        "floats_a_pixel": {"assumed": FLOATS_PER_PIXEL, **_peak(encoder.segmenter)},
    }


def _peak(segmenter: Any) -> dict[str, float]:
    """Floats a pixel that a batch really takes at its peak, from two batches' growth."""
    import resource

    import numpy as np

    peaks = []
    for number in (1, 16, 48):
        segmenter.encode([np.zeros((128, 128, 3), np.uint8)] * number)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {"measured": round((peaks[2] - peaks[1]) / (48 - 16) / 4 / 128**2, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "what", choices=["single", "pace", "stages", "kill", "corrupt", "embeddings", "cluster"]
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--number", type=int, default=400, help="pictures, for all but pace")
    parser.add_argument("--rounds", type=int, default=4, help="slices of the single process's run")
    parser.add_argument("--batch-size", type=int, default=8, help="of the single process")
    parser.add_argument("--out", type=Path, help="of single")
    parser.add_argument("--model", help="of embeddings; models.py writes one of published size")
    parser.add_argument("--work", type=Path, help="keep what is written, in this empty folder")
    given = parser.parse_args()
    if given.what == "single":
        print(json.dumps(single(given.images, given.out, given.batch_size)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        if given.what == "pace":
            document = pace(given.images, work, given.rounds, given.batch_size)
        else:
            more = {"model": given.model} if given.what == "embeddings" else {}
            document = globals()[given.what](given.images, work, given.number, **more)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
