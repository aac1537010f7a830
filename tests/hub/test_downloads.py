"""Repositories fetched from a hub: what of them, in which order, and what can go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest
from hub_server import REVISION, Hub
from huggingface_hub import constants

from masqclip.cli.main import main
from masqclip.errors import MasqclipError
from masqclip.hub import download, local, repository, transfer
from masqclip.hub.download import prepare
from masqclip.hub.find import find_weights
from masqclip.hub.kinds import ANY

CONFIG = json.dumps({"model_type": "clip"}).encode()
WEIGHTS = os.urandom(50_000)
NAME = "owner/model"
# The library writes ten megabytes at a time.
IN_SMALL_PIECES = """
import sys
from huggingface_hub import constants
from masqclip.cli.main import main
constants.DOWNLOAD_CHUNK_SIZE = 4_000
sys.exit(main())
"""


def fill(hub: Hub, **files: bytes) -> None:
    """A repository: CONFIG, and files whose names have _ for a dot."""
    hub.repositories[NAME] = {"config.json": CONFIG} | {
        name.replace("__", "."): content for name, content in files.items()
    }


def test_one_kind_of_weights_is_taken(hub: Hub) -> None:
    fill(
        hub,
        model__safetensors=WEIGHTS,
        model__fp16__safetensors=WEIGHTS[:20_000],
        pytorch_model__bin=WEIGHTS[:30_000],
        tf_model__h5=WEIGHTS[:40_000],
        flax_model__msgpack=WEIGHTS[:41_000],
        open_clip_pytorch_model__bin=WEIGHTS[:42_000],
        README__md=b"#" * 5_000,
        vocab__json=b"{}",
        preprocessor_config__json=b"{}",
    )
    folder = find_weights(NAME, what="CLIP")
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "vocab.json"
    }  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.files() == ["model.safetensors"]
    asked = len(hub.asked)
    assert find_weights(NAME, what="CLIP") == folder
    assert len(hub.asked) == asked, "what is here is not asked about again"


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["pytorch_model.bin", "tf_model.h5"], ["pytorch_model.bin"]),
        (["model.safetensors.index.json", "pytorch_model.bin"], ["a.safetensors", "b.safetensors"]),
        (["open_clip_model.safetensors"], None),  # with a config.json, of transformers: no weights
    ],
)
def test_which_kind(hub: Hub, there: list[str], taken: list[str] | None) -> None:
    index = json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors"}}).encode()
    hub.repositories[NAME] = {"config.json": CONFIG} | {
        name: index if name.endswith(".json") else WEIGHTS + name.encode() for name in there
    }
    for shard in ("a", "b", "c"):
        hub.repositories[NAME][f"{shard}.safetensors"] = WEIGHTS + shard.encode()
    if taken is None:
        with pytest.raises(MasqclipError, match="holds no weights that can be read safely"):
            find_weights(NAME, what="CLIP")
        return
    find_weights(NAME, what="CLIP")
    assert hub.files() == taken


def test_an_index_of_what_is_not_there(hub: Hub) -> None:
    index = json.dumps({"weight_map": {"x": "lost.safetensors"}}).encode()
    fill(hub, model__safetensors__index__json=index)
    with pytest.raises(MasqclipError, match="is not whole: it has no file 'lost"):
        find_weights(NAME, what="CLIP")


@pytest.mark.parametrize(
    ("config", "what", "said"),
    [
        (
            {"model_type": "altclip"},
            "CLIP",
            "is an AltCLIP .model_type 'altclip'., and a CLIP here is of the type clip or siglip",
        ),
        ({"model_type": "siglip2"}, "CLIP", "is a SigLIP 2 .*: use a SigLIP 2 of one picture size"),
        ({"model_type": "sam_hq"}, "proposer", "is a SAM-HQ"),
        ({"model_type": "yolos"}, "proposer", "makes boxes and no masks"),
        (
            {"model_type": "oneformer", "backbone_config": {"model_type": "dinat"}},
            "proposer",
            "natten",
        ),
        ({"model_type": "clip"}, "proposer", "is a CLIP .*; it is a clip"),
        (
            {"model_type": "masqclip"},
            "CLIP",
            "it is a whole model: give it as --model",
        ),
        ({"model_type": "bert"}, ANY, "model_type 'bert'"),
        ({}, "CLIP", "model_type 'None'"),
    ],
)
def test_nothing_large_is_fetched_of_a_wrong_type(
    hub: Hub, config: dict[str, object], what: str, said: str
) -> None:
    fill(hub, model__safetensors=WEIGHTS)
    hub.repositories[NAME]["config.json"] = json.dumps(config).encode()
    with pytest.raises(MasqclipError, match=said):
        find_weights(NAME, what=what)
    assert hub.files() == []
    assert hub.served == 0


def test_it_goes_on_after_a_break(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a process the library tries again; what it gives up is kept for the next one."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4_000)
    fill(hub, model__safetensors=WEIGHTS)
    hub.cut, hub.breaks = {"model.safetensors": 0}, 100
    with pytest.raises(MasqclipError, match=r"broke off after 0 of 50,000 bytes.*goes on"):
        find_weights(NAME, what="CLIP")
    hub.cut, hub.breaks, hub.asked = {"model.safetensors": 20_000}, 1, []
    folder = find_weights(NAME, what="CLIP")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [part for _, path, part in hub.asked if "/store/" in path] == ["", "bytes=20000-"]
    assert hub.served == len(WEIGHTS)


def test_a_killed_download_goes_on(hub: Hub, tmp_path: Path) -> None:
    fill(hub, model__safetensors=WEIGHTS)
    hub.pace = 0.02
    command = [sys.executable, "-c", IN_SMALL_PIECES, "download", NAME]
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        while hub.served < len(WEIGHTS) // 2:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    hub.pace, hub.asked, before = 0.0, [], hub.served
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (start,) = (part for _, path, part in hub.asked if "/store/" in path)
    assert int(start.removeprefix("bytes=").rstrip("-")) > 0
    assert hub.served - before < len(WEIGHTS)
    assert "--model, --clip or --proposer owner/model" in done.stdout
    folder = local.cached(NAME)
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    leftover = [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".part"]
    assert leftover == []


def test_the_disk_takes_what_was_announced(hub: Hub, tmp_path: Path) -> None:
    fill(hub, model__safetensors=WEIGHTS, pytorch_model__bin=WEIGHTS)
    pending = prepare(NAME, what="CLIP")
    announced = pending.bytes
    assert announced == len(WEIGHTS)
    peak = 0
    real = transfer.matches

    def watched(*given: object) -> bool:
        nonlocal peak
        peak = max(peak, used(tmp_path / "cache"))
        return real(*given)  # type: ignore[arg-type]

    transfer.matches = watched  # type: ignore[assignment]
    try:
        pending.fetch()
    finally:
        transfer.matches = real
    assert peak == announced + len(CONFIG)
    assert used(tmp_path / "cache") == peak + len(REVISION)


def used(folder: Path) -> int:
    """Bytes of all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_wrong_digest(hub: Hub, tmp_path: Path, file: str) -> None:
    fill(hub, model__safetensors=WEIGHTS)
    hub.wrong = {file}
    with pytest.raises(
        MasqclipError, match=rf"^{file} of .* \(its digest differs\): it was thrown"
    ):
        find_weights(NAME, what="CLIP")
    hub.wrong = set()
    folder = find_weights(NAME, what="CLIP")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_disk_without_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(hub, model__safetensors=WEIGHTS)
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda _: os.terminal_size((0, 0)) and Free()
    )
    with pytest.raises(MasqclipError, match=r"owner/model needs 1 MB and the disk of .* has"):
        find_weights(NAME, what="CLIP")
    assert hub.served == 0


class Free:
    """A disk with little room: enough for settings."""

    free = 10_000


def test_what_a_proxy_answers(hub: Hub) -> None:
    hub.page = True
    with pytest.raises(MasqclipError, match=r"is not the Hub \(a proxy's page, or a sign-in"):
        find_weights(NAME, what="CLIP")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (503, r"is busy \(status 503\): try again"),
        (429, "status 429"),
        (418, "refuses 'owner/model'"),
        (404, "is not the Hub"),
    ],
)
def test_what_a_hub_refuses(hub: Hub, status: int, said: str) -> None:
    hub.status = status
    with pytest.raises(MasqclipError, match=said):
        find_weights(NAME, what="CLIP")


def test_a_name_that_is_nearly_right(hub: Hub) -> None:
    with pytest.raises(MasqclipError, match="did you mean 'openai/clip-vit-base-patch16'"):
        find_weights("openai/clip-vit-base-patch-16", what="CLIP")
    with pytest.raises(MasqclipError, match=r"no CLIP 'clip-b61' .did you mean 'clip-b16'"):
        find_weights("clip-b61", what="CLIP")
    assert hub.served == 0


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_behind_a_form(hub: Hub, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(hub, model__safetensors=WEIGHTS)
    hub.gated, hub.gated_status = {NAME}, status
    said = r"agree to its terms at .*/owner/model, sign in with 'hf auth login' \(or set HF_TOKEN"
    with pytest.raises(MasqclipError, match=said):
        find_weights(NAME, what="CLIP")
    monkeypatch.setenv("HF_TOKEN", "let-me-in")
    assert find_weights(NAME, what="CLIP").is_dir()


def test_no_network_is_told_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody answers for, and an address that nothing listens at."""
    started = time.monotonic()
    for address in ("http://127.0.0.1:9", "https://hub.invalid"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(MasqclipError, match=r"cannot be reached.*hf download owner/model"):
            find_weights(NAME, what="CLIP")
    # Nobody says that a name is unknown, as behind a firewall.
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: Event().wait(30))
    with pytest.raises(MasqclipError, match=r"cannot be reached.*hf download owner/model"):
        find_weights(NAME, what="CLIP")
    assert time.monotonic() - started < 3.5
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MasqclipError, match="switched off here: HF_HUB_OFFLINE"):
        find_weights(NAME, what="CLIP")


def test_a_proxy_is_asked_in_place_of_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    assert repository._reachable("http://hub.invalid", 1.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not repository._reachable("http://hub.invalid", 1.0)


def test_a_slow_hub_is_waited_for(hub: Hub) -> None:
    fill(hub, model__safetensors=WEIGHTS)
    hub.delay = 0.5
    assert find_weights(NAME, what="CLIP").is_dir()


def open_clip(hub: Hub, **vision: object) -> None:
    """A repository of open_clip alone."""
    towers = {"vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8} | vision,
              "text_cfg": {"width": 32, "heads": 2, "layers": 2}}  # fmt: skip
    config = json.dumps({"model_cfg": {"embed_dim": 16, **towers}}).encode()
    hub.repositories[NAME] = {
        "open_clip_config.json": config,
        "open_clip_model.safetensors": WEIGHTS,
        "open_clip_pytorch_model.bin": WEIGHTS[::-1],
    }


def test_an_open_clip_is_one_kind_too(hub: Hub) -> None:
    open_clip(hub)
    folder = find_weights(NAME, what="CLIP")
    assert hub.files() == ["open_clip_model.safetensors"]
    assert local.has_weights(folder)
    assert find_weights(NAME, what="CLIP") == folder


@pytest.mark.parametrize("vision", [{"timm_model_name": "vit_so400m"}, {"layers": [3, 4, 6, 3]}])
def test_an_open_clip_of_other_towers_is_refused_first(hub: Hub, vision: dict[str, object]) -> None:
    open_clip(hub, **vision)
    with pytest.raises(MasqclipError, match=r"the open_clip_config.*of 'owner/model'"):
        find_weights(NAME, what="CLIP")
    assert hub.served == 0


def test_a_folder_of_ones_own(hub: Hub, tmp_path: Path) -> None:
    fill(hub, model__safetensors=WEIGHTS, tokenizer__json=b"{}")
    to = tmp_path / "mine"
    assert main(["download", NAME, "--to", str(to)]) == 0
    assert sorted(path.name for path in to.iterdir()) == [
        "config.json", "masqclip_origin.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    assert local.origin(to) == NAME
    assert not any(path.is_symlink() for path in to.iterdir())
    assert not (tmp_path / "cache").exists()
    asked = hub.served
    assert main(["download", NAME, "--to", str(to)]) == 0
    assert hub.served == asked, "what is there is not fetched again"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no name given: masqclip download NAME"),
        (["photo", "sam-b", "--to", "x"], "--to takes one NAME, and 2 are given"),
        (["fotos"], "did you mean 'photo'?"),
        (["./photo"], "there is no model './photo'"),
        (["owner/nothing"], "says: there is no model, CLIP or proposer 'owner/nothing'"),
    ],
)
def test_what_cannot_be_downloaded(
    hub: Hub, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_the_plan_without_a_network(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["download", "photo-small", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K: about 600 MB, licence: MIT"
    command = lines[2].removeprefix("where there is a network, run: ")
    assert command.split(" && ")[1] == (
        "hf download tue-mps/coco_panoptic_eomt_small_640_2x --include '*.json' "
        "--include merges.txt --include 'model.safetensors' --local-dir photo-small/proposer"
    )
    assert main(["download", "photo-small"]) == 2
    assert command in capsys.readouterr().err


def test_a_licence_is_agreed_to_once(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    name = "mask2former-swin-t-coco"
    with pytest.raises(MasqclipError, match=f"to agree, run 'masqclip download {name} --acc"):
        find_weights(name, what="proposer")
    assert main(["download", name]) == 2
    assert "is under CC BY-NC 4.0, which forbids some uses (read https" in capsys.readouterr().err
    assert hub.asked == []
    assert main(["download", name, "--accept-licence"]) == 2  # agreed; the hub does not have it
    assert main(["download", name]) == 2
    assert "says: there is no proposer 'facebook/mask2former" in capsys.readouterr().err
