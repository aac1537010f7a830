"""The process that decodes pictures for `image_readers`: files in, pixels out, within limits.

request   a line of JSON: name, bytes, max_pixels; then the file
answer    JSON, after its length: error; or height, width, notes; then the pixels
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import warnings

from masqclip.data.image_decoding import broken, decode_image
from masqclip.data.image_readers import LENGTH_BYTES
from masqclip.errors import MasqclipError

if sys.platform != "win32":
    import resource


def main() -> None:
    """Answer requests until there are none."""
    seconds, memory, niceness = (int(word) for word in sys.argv[1:])
    if sys.platform != "win32":
        os.nice(niceness)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the program
    warnings.simplefilter("ignore")  # what matters stands in a picture's notes
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not answer for us
    _limit_memory(memory)
    while line := requests.readline():
        wish = json.loads(line)
        data = requests.read(wish["bytes"])
        if len(data) < wish["bytes"]:
            return
        _limit_time(seconds)
        try:
            image = decode_image(data, wish["name"], wish["max_pixels"])
        except MemoryError:
            answer: dict[str, object] = {
                "error": f"{wish['name']}: takes more than {memory / 1e9:g} GB to decode; make it "
                "smaller, or save it as a plain JPEG or PNG"
            }
        except MasqclipError as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": broken(wish["name"], error)}
        else:
            answer = {"height": image.height, "width": image.width, "notes": image.notes}
        del data
        told = json.dumps(answer).encode()
        answers.write(len(told).to_bytes(LENGTH_BYTES) + told)
        if "error" not in answer:
            answers.write(image.pixels.data.cast("B"))
            del image
        answers.flush()


def _limit_memory(memory: int) -> None:
    """Let this process take so many bytes beyond those that it has now, and leave no core file.

    macOS and Windows do not hold a process to it.
    """
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            with open("/proc/self/statm") as file:
                has = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + memory, has + memory))


def _limit_time(seconds: int) -> None:
    """Let this process take so much processor time from now on; then it is ended (SIGXCPU).

    On Windows the program ends it, by the clock.
    """
    if sys.platform != "win32":
        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(
            resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime) + seconds, hard)
        )


if __name__ == "__main__":
    main()
