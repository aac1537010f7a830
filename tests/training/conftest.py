"""A tiny random model and a dozen scenes: quick, and as good as any for what must always hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import baseline_runs
import pytest
import torch
from streams import SENTENCES
from transformers import ResNetBackbone

from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.training import captioned
from masqclip.training.systems import Ingredients
from tiny import SPRITES, tiny_proposer_config, write_tiny_clip, write_tiny_proposer


@pytest.fixture(scope="module")
def few_sentences() -> Iterator[None]:
    """Tokenizers of drawn scenes learn from some dozen of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captioned, "_SAMPLED_SENTENCES", SENTENCES)
        yield


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes of 64 x 64 pixels in COCO's formats."""
    folder = tmp_path_factory.mktemp("tiny-scenes")
    world = StickerWorld(load_sprites(SPRITES), SceneSettings(size=64))
    write_stickers(folder, world, images=12, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_proposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a proposer."""
    folder = tmp_path_factory.mktemp("tiny-proposer")
    write_tiny_proposer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ResNet that a proposer's backbone can start from."""
    folder = tmp_path_factory.mktemp("tiny-backbone")
    torch.manual_seed(6)
    ResNetBackbone(tiny_proposer_config().backbone_config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a CLIP and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    write_tiny_clip(folder)
    return folder


@pytest.fixture(scope="session")
def given(tiny_scenes: Path, tiny_clip: Path, tiny_proposer: Path) -> Ingredients:
    """What the compared systems are trained from."""
    return baseline_runs.ingredients(tiny_scenes, tiny_clip, tiny_proposer)


@pytest.fixture
def make(given: Ingredients, tmp_path: Path) -> Callable[..., Any]:
    """A stage of a compared system by its name, with some settings changed; it has not begun."""
    return lambda name, **changes: baseline_runs.stage(name, given, tmp_path / name, **changes)
