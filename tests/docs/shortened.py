"""How the documented commands differ here from what stands on the pages: all of it, in tables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A rule for commands.

    Attributes:
        start: what they begin with; of Python blocks, their first line.
        change: the options that are put in place of their own, or added.
        reason: why it is so.
    """

    start: str
    change: str
    reason: str

    def holds(self, command: str) -> bool:
        """Whether it is a rule for this command."""
        return command.startswith(self.start)


_TWO_STEPS = "--set steps=2 --set batch_size=2 --set workers=0 --set warmup_steps=0 --device cpu"
_SMALL = "--set image_size=64 --set num_points=64"

#: Options of `masqclip` by which the same work is done on less. Where an option is given already,
#: its value is replaced; ``--set`` is always added, and the last one counts.
SHORTER = (
    Entry("data stickers", "--images 4", "four scenes instead of hundreds"),
    Entry(
        "train pretrain",
        f"{_TWO_STEPS} --set image_size=32 --set merges=20 --set vision_layers=1 "
        "--set text_layers=1 --set extra_captions=0 --set precision=no",
        "two steps of a CLIP of one block",
    ),
    Entry("train teacher", f"{_TWO_STEPS} {_SMALL} --set precision=no", "two steps, small frames"),
    Entry("train distill", f"{_TWO_STEPS} {_SMALL} --set precision=no", "two steps, small frames"),
    Entry(
        "train tune",
        f"{_TWO_STEPS} --set shortest_edge=64 --set longest_edge=128 --set precision=no",
        "two steps, small frames",
    ),
    Entry("train baseline", f"{_TWO_STEPS} --set image_size=64", "two steps, small frames"),
    Entry("evaluate", "--limit 2 --size 64:128", "two pictures, made small"),
    Entry(
        "convert",
        "--clip ViT-L-14-336px.pt --text-heads 2",
        "the small checkpoint has a CLIP of its own, of other sizes than any published one",
    ),
    Entry("bench", "--picture 64x80 --rounds 1", "one small picture"),
)

#: Programs of the repository, with the words that they are given in place of the page's.
PROGRAMS = (
    Entry("python tests/fuzz/run.py", "pictures --number 3 --seed 1", "three pictures"),
    Entry("python tests/fuzz/annotation_meaning.py", "1 5", "five files"),
)

#: What is not run, with its reason. Each entry has to begin a command or a Python block of a page.
NOT_RUN = (
    Entry("python3 -m venv", "", "makes an environment: .ci/run does, from nothing"),
    Entry("pip install", "", "the environment of the tests is there, and stays as it is"),
    Entry(".venv/bin/pip install", "", "the environment of the tests is there, and stays as it is"),
    Entry("./check", "", "is what runs the tests"),
    Entry("curl ", "", "tests/serve/test_server.py runs every block of curl against a service"),
    Entry("id=$(", "", "belongs to a block of curl"),
    Entry("words=$(", "", "likewise"),
    Entry("from pathlib import Path\n\nfrom masqclip.serve import Client", "",
          "tests/serve/test_server.py runs it against a service"),
    Entry("masqclip serve", "", "goes on until it is stopped; tests/serve starts it"),
    Entry("LABEL_STUDIO_API_KEY=", "", "needs a Label Studio; tests/serve speaks its protocol"),
    Entry("docker ", "", "needs docker"),
    Entry("yolo segment train", "", "is a trainer of others, which is not installed"),
    Entry("import fiftyone", "", "FiftyOne brings a database; tests/export has a stand-in for it"),
    Entry("export RAY_AUTH_MODE", "", "is for a cluster of Ray"),
    Entry("ray ", "", "is for a cluster of Ray"),
    Entry("masqclip batch s3://", "", "needs a cluster of Ray and an object store"),
    Entry("apt-get install", "", "is for the system's administrator"),
    Entry("npm pack", "", "downloads"),
    Entry("tar xzf", "", "unpacks what was downloaded"),
    Entry("masqclip train teacher --recipe base-novel", "", "its dots stand for data of one's own"),
)  # fmt: skip

#: Programs of the repository that take minutes or a GPU: their options are read as they would be,
#: and nothing else is done.
OPTIONS_ONLY = (
    Entry("python benchmarks/", "", "measures for minutes; tests/benchmarks run them in small"),
)


def find(table: tuple[Entry, ...], command: str) -> Entry | None:
    """The entry of a table that holds for a command."""
    return next((entry for entry in table if entry.holds(command)), None)


def shorten(words: list[str]) -> list[str]:
    """The words after ``masqclip`` by which the same work is done on less."""
    entry = find(SHORTER, " ".join(words))
    return words if entry is None else put(words, entry.change)


def put(words: list[str], change: str) -> list[str]:
    """Words with other values of some options."""
    changed, options = list(words), shlex.split(change)
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option != "--set" and option in changed:
            changed[changed.index(option) + 1] = value
        else:
            changed += [option, value]
    return changed
