"""Hostile checkpoints and model folders, briefly; `run.py` makes as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from forked import run

# A crash must not take the tests with it, so they are read in a process of their own.
READ = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
import checkpoints, folders
from masqclip.weights.checkpoint import read_state_dict
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter

sys.addaudithook(lambda event, args: event in FORBIDDEN and print("FAULT", event, args))
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen")
module, read = {
    "checkpoints": (checkpoints, read_state_dict),
    "folders": (folders, lambda path: Segmenter.from_pretrained(path, device="cpu")),
}[sys.argv[2]]
home, read_in, refused = Path(sys.argv[3]), 0, 0
for name, write in module.cases(5, int(sys.argv[4])):
    try:
        read(write(home))
        read_in += 1
    except MasqclipError as error:
        refused += 1
        if "\\n" in str(error) or "weights_only" in str(error):
            print("FAULT", name, error)
    except BaseException as error:
        print("FAULT", name, type(error).__name__, str(error)[:300])
if list(home.rglob("executed")):
    print("FAULT executed")
print("read", read_in, "refused", refused)
"""


@pytest.mark.parametrize(("target", "number"), [("checkpoints", 36), ("folders", 36)])
def test_what_is_hostile_is_read_or_refused_in_a_line(
    target: str, number: int, tmp_path: Path
) -> None:
    fuzz = str(Path(__file__).parent)
    done = run(READ, fuzz, target, str(tmp_path), str(number), scratch=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "FAULT" not in done.stdout, done.stdout
    refused = int(done.stdout.split()[-1])
    assert refused > number / 3
