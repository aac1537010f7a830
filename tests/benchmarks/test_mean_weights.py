"""The mean of two CLIPs, or proposers, is that; a CLIP reads words and pixels as the first does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu_calls import BENCHMARKS
from torch import nn
from transformers import CLIPModel

from masqclip.errors import MasqclipError
from masqclip.proposals.mask2former import Mask2FormerProposer, miniature_mask2former_config
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import clip_normalisation, write_normalisation
from masqclip.towers.tokenizer import load_tokenizer
from masqclip.training.settings import PretrainSettings
from masqclip.training.small_clip import small_config
from mean_weights import main, mean_weights

MINI = BENCHMARKS.parent / "src" / "masqclip" / "models" / "masqclip-mini"


def clip(folder: Path, seed: int, *, width: int = 32, mean: float = 0.5) -> Path:
    """A small CLIP of chance with the shipped words."""
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(MINI)
    settings = PretrainSettings(vision_width=width, vision_layers=1, vision_heads=2,
                                text_width=16, text_layers=1, text_heads=2)  # fmt: skip
    CLIPModel(small_config(settings, tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_normalisation(folder, {"clip_mean": (mean,) * 3, "clip_std": (0.25,) * 3}, 128)
    return folder


def test_the_mean_is_half_way(tmp_path: Path) -> None:
    one, two = clip(tmp_path / "one", 1, mean=0.4), clip(tmp_path / "two", 2)
    main([one, two], out=tmp_path / "mean")
    (a, words), (b, _), (mean, kept) = (
        load_clip_and_tokenizer(folder) for folder in (one, two, tmp_path / "mean")
    )
    pairs = zip(a.parameters(), b.parameters(), mean.parameters(), strict=True)
    for first, second, half in pairs:
        torch.testing.assert_close(half, (first + second) / 2)
        assert first.ndim < 2 or not torch.equal(first, second)
    assert kept.get_vocab() == words.get_vocab()
    assert clip_normalisation(tmp_path / "mean") == clip_normalisation(one)


def test_of_three_each_counts_a_third(tmp_path: Path) -> None:
    folders = [clip(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    main(folders, out=tmp_path / "mean")
    *clips, mean = (load_clip_and_tokenizer(folder)[0] for folder in (*folders, tmp_path / "mean"))
    for *all_three, third in zip(*(model.parameters() for model in (*clips, mean)), strict=True):
        torch.testing.assert_close(third, sum(all_three) / 3)


def test_one_alone_has_no_mean(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match=r"^one alone has no mean: give two folders or more$"):
        main([Path("one")], out=tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_clips_of_other_sizes_are_refused(tmp_path: Path) -> None:
    one, _ = load_clip_and_tokenizer(clip(tmp_path / "one", 1))
    two, _ = load_clip_and_tokenizer(clip(tmp_path / "two", 1, width=48))
    with pytest.raises(MasqclipError, match="differ in their sizes"):
        mean_weights(one, [two])


def test_of_proposers_too_with_what_their_batch_norms_have_seen(tmp_path: Path) -> None:
    made = []
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        config = miniature_mask2former_config(
            num_queries=4, width=32, backbone_widths=(8, 8, 8, 8), backbone_depths=(1, 1, 1, 1),
            encoder_layers=1, decoder_layers=1,
        )  # fmt: skip
        proposer = Mask2FormerProposer(config)
        for module in proposer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += seed + 1
        proposer.save_pretrained(tmp_path / name)
        made.append(proposer.state_dict())
    main([tmp_path / "one", tmp_path / "two"], out=tmp_path / "mean")
    mean = Mask2FormerProposer.from_pretrained(tmp_path / "mean").state_dict()
    assert mean.keys() == made[0].keys()
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (made[0][name] + made[1][name]) / 2)
    assert any(
        name.endswith("running_mean") and (value == 1.5).all() for name, value in mean.items()
    )


def test_a_full_disk_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer of weights has errors of its own kind."""

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    one, two = clip(tmp_path / "one", 1), clip(tmp_path / "two", 2)
    monkeypatch.setattr(CLIPModel, "save_pretrained", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*mean'"):
        main([one, two], out=tmp_path / "mean")
