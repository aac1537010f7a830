"""The command `masqclip`: its verbs, and how a mistake is told.

Each verb is one module of this room that holds a cyclopts `App`, which may have verbs of its own
(``masqclip train tune``). `VERBS` names it by its import path, so that no verb costs the others
anything: ``masqclip --help`` imports none, ``masqclip info`` only its own. A verb in turn imports
torch and the rooms of masqclip in its function body, so that its own ``--help`` is quick as well.

Exit codes: 0 done; 2 a mistake in what was given, told in one line on stderr; 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

from masqclip import __version__
from masqclip.cli.console import print_error
from masqclip.cli.sources import STANDARD_INPUT, STANDARD_INPUT_FILE
from masqclip.errors import MasqclipError, is_out_of_memory, lacks_torch, storage_error

DEBUG_FLAG = "--debug"
_SPINS = "2000"  # how often a waiting thread looks before it sleeps; OpenMP's default is 300,000

# The verb, the App behind it ("module:attribute"; its name is the verb's), and its one line.
VERBS = (
    ("segment", "masqclip.cli.segment:app", "Find what names describe in pictures, and mask it."),
    ("label", "masqclip.cli.label:app", "Turn a folder of pictures into a dataset."),
    ("vocabulary", "masqclip.cli.vocabulary:app", "Make vocabularies with examples."),
    ("batch", "masqclip.cli.batch:app", "Segment millions of pictures; resume after any stop."),
    ("data", "masqclip.cli.data:app", "Make the miniature world; check published datasets."),
    ("train", "masqclip.cli.train:app", "Train a model, stage by stage."),
    ("evaluate", "masqclip.cli.evaluate:app", "Measure a model on a dataset: AP, mIoU, PQ."),
    ("calibrate", "masqclip.cli.calibrate:app", "Make scores mean something, on your pictures."),
    ("convert", "masqclip.cli.convert:app", "Make a model of a published checkpoint."),
    ("export", "masqclip.cli.export:app", "Write a model as ONNX graphs, whose words stay free."),
    ("download", "masqclip.cli.download:app", "Fetch a model's weights, to use without a network."),
    ("serve", "masqclip.cli.serve:app", "Serve a model over HTTP, with a page for people."),
    ("web", "masqclip.cli.web:app", "Write the page as a folder that needs no server."),
    ("bench", "masqclip.cli.bench:app", "Say how fast a model is on this machine."),
    ("info", "masqclip.cli.info:app", "Say what is installed and which models there are."),
)

app = App(
    name="masqclip",
    help="Open-vocabulary image segmentation: a picture and a list of names in, masks out.",
    help_epilogue="""\
**Start here**

```text
masqclip segment photo.jpg --vocabulary "cat, sofa, floor" --model photo
masqclip segment --help     # a verb's options, with examples
masqclip info               # the models and vocabularies that are here
```

Where the one line that tells of a mistake is not enough, `--debug` shows the traceback.""",
    help_format="markdown",
    version=__version__,
    # Booleans are flags; a verb that wants --no-x as well says so.
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)

for position, (verb, path, line) in enumerate(VERBS):
    app.command(path, name=verb, help=line, sort_key=position)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        tokens: the words after ``masqclip``; None = those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if tokens is None else tokens)
    debug = DEBUG_FLAG in words
    words = [word for word in words if word != DEBUG_FLAG]
    if words[:1] == ["segment"]:
        words = [STANDARD_INPUT_FILE if word == STANDARD_INPUT else word for word in words]
    # A file name may hold characters that the terminal's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    # Pillow warns about oddities of files; what matters of them stands in an image's notes.
    warnings.filterwarnings("ignore", module=r"PIL\b")
    # Pixels and masks are written once and read a few times: to find huge pages for them takes the
    # kernel longer than they save. NumPy asks for this when it is imported.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    _share_the_machine()
    # The libraries make a million objects that stay. Looking for garbage among them, while they
    # load and again at the end, is a seventh of a short run.
    gc.set_threshold(200_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()  # a closed pipe shows here, not after main
    except (MasqclipError, CycloptsError) as error:
        if debug:
            raise
        print_error(_told(error) if isinstance(error, CycloptsError) else str(error))
        return 2
    except ImportError as error:
        lacking = lacks_torch(error)
        if debug or lacking is None:
            raise
        print_error(str(lacking))
        return 2
    except (MemoryError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        print_error("out of memory: give smaller pictures, --batch-size 1, or --device cpu")
        return 2
    except KeyboardInterrupt:
        if debug:
            raise
        print_error("interrupted; the files written so far are complete", kind="")
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        told = storage_error(error)
        if debug or told is None:
            raise
        print_error(told)
        return 2
    return code if isinstance(code, int) else 0


def _share_the_machine() -> None:
    """Make PyTorch's threads wait for one another without keeping others off the processor.

    Between two pieces of work the threads of GNU's OpenMP look for the next one in a loop, for
    milliseconds. On a machine that is busy otherwise that loop takes the turn of the very thread
    that it waits for. So short a search costs nothing on an idle machine, where the next piece
    comes sooner, and a busy one is up to twenty times as fast by it (benchmarks/busy.py). What the
    environment asks for goes first; the library, imported by another program, sets nothing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def _told(error: CycloptsError) -> str:
    """A mistake in the words of a command line, in one line: above all what is missing."""
    verb = " ".join(("masqclip", *(error.command_chain or ())))
    help_ = f"'{verb} --help' has the usage and examples"
    argument, words = error.argument, error.unused_tokens
    if isinstance(error, UnusedCliTokensError) and words:
        return f"{verb}: {' '.join(words):.200}: nothing is known to do with that; {help_}"
    if isinstance(error, MissingArgumentError) and argument is not None and not words:
        if argument.tokens or error.keyword is not None:  # an option without its value
            return str(error)
        placed = argument.index is not None
        name = argument.name.lstrip("-").upper() if placed else argument.name
        return f"{verb}: no {name} is given; {help_}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
