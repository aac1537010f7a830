"""MasQ-Tuning's step at full size, against the published formulation written down plainly.

    python benchmarks/tuning.py --out tuning

The plain version is the paper's: image tokens and mask class tokens are one sequence, a mask says
who may see whom, attention matrices are explicit, and autograd is left to find out that only the
mask class tokens matter. Ours runs the image without gradient and differentiates the mask class
tokens alone. Both have the same random weights (ViT-L/14 at 336 pixels), picture, masks, labels,
loss and optimizer, each in a process of its own so that peak memory is its own.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cyclopts
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from masqclip.clip.classifier import clip_logits
from masqclip.clip.masked_vision import (
    MaskQueries,
    embed_masks,
    encode_image,
)
from masqclip.clip.patches import patch_visibility
from masqclip.data.files import write_atomically
from masqclip.towers.families import tower_of
from masqclip.training.naming import tuning_loss

SIDE, PATCH, CLASSES = 336, 14, 65


def full_size_clip(layers: int) -> CLIPModel:
    """OpenAI's ViT-L/14@336 with random weights; of the text side, next to nothing."""
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=layers, num_attention_heads=16,
        image_size=SIDE, patch_size=PATCH, projection_dim=768,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, projection_dim=768, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    config = CLIPConfig(
        vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=768
    )
    return CLIPModel(config).eval().requires_grad_(False)


def plain_embeddings(
    clip: CLIPModel, queries: MaskQueries, pixels: Tensor, visible: Tensor
) -> Tensor:
    """Mask embeddings [B,Q,E], the published way: one sequence, explicit attention."""
    vision: Any = clip.vision_model
    image = vision.embeddings(pixels)
    batch, masks = visible.shape[:2]
    start = vision.embeddings.class_embedding + queries.embedding
    hidden = torch.cat([image, start.expand(batch, masks, -1)], dim=1)
    hidden = vision.pre_layrnorm(hidden)
    patches, length = image.shape[1], hidden.shape[1]
    # Rows look at columns: nobody at a mask class token; those at the class token and patches.
    allowed = torch.zeros(batch, length, length, dtype=torch.bool, device=pixels.device)
    allowed[:, :, 0] = True
    allowed[:, :patches, :patches] = True
    allowed[:, patches:, 1:patches] = visible
    bias = torch.zeros(allowed.shape, device=pixels.device).masked_fill(~allowed, -math.inf)
    for number, layer in enumerate(vision.encoder.layers):
        attention = layer.self_attn
        normed = layer.layer_norm1(hidden)
        query = torch.cat(
            [
                attention.q_proj(normed[:, :patches]),
                queries.projections[number](normed[:, patches:]),
            ],
            dim=1,
        )
        query, key, value = (
            x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for x in (query, attention.k_proj(normed), attention.v_proj(normed))
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias[:, None]
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        hidden = hidden + attention.out_proj(mixed)
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    return clip.visual_projection(vision.post_layernorm(hidden[:, patches:]))


def own_embeddings(
    clip: CLIPModel, queries: MaskQueries, pixels: Tensor, visible: Tensor
) -> Tensor:
    """Mask embeddings [B,Q,E] as `TuneStage` makes them."""
    with torch.no_grad():
        tokens = encode_image(tower_of(clip), pixels)
    return embed_masks(tower_of(clip), queries, tokens, visible)


def run_side(
    side: str,
    batch: int,
    masks: int,
    layers: int,
    steps: int,
    device: torch.device,
    *,
    bf16: bool = False,
) -> dict[str, Any]:
    """Train for some steps, by `bf16` under autocast: losses, steps/s and memory in bytes."""
    torch.manual_seed(0)
    clip = full_size_clip(layers).to(device)
    queries = MaskQueries(tower_of(clip))
    queries.start(tower_of(clip))
    queries.to(device)
    pixels = torch.randn(batch, 3, SIDE, SIDE).to(device)
    # Smooth noise: blobs of all sizes, as masks are.
    logits = F.interpolate(torch.randn(batch, masks, 6, 6), size=(96, 96), mode="bilinear")
    visible = patch_visibility(logits - 0.5, image_size=SIDE, patch_size=PATCH).to(device)
    text = F.normalize(torch.randn(CLASSES + 1, 768), dim=-1).to(device)
    targets = torch.randint(0, CLASSES + 1, (batch, masks)).to(device)
    optimizer = torch.optim.AdamW(queries.parameters(), lr=1e-4, weight_decay=0.05)
    embed = {"plain": plain_embeddings, "ours": own_embeddings}[side]
    weights = current_memory(device)
    reset_peak(device)
    losses, times = [], []
    for _ in range(steps + 1):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = clip_logits(embed(clip, queries, pixels, visible), text)
            loss = 2.0 * tuning_loss(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(queries.parameters(), 0.01)
        optimizer.step()
        losses.append(float(loss.detach()))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    peak = peak_memory(device)
    return {
        "losses": losses,
        "steps_per_second": steps / sum(times[1:]),  # the first step warms up
        "weights": weights,
        "peak": peak,
        "beyond_weights": peak - weights,
    }


def current_memory(device: torch.device) -> int:
    """Bytes in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def peak_memory(device: torch.device) -> int:
    """The most bytes in use since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def reset_peak(device: torch.device) -> None:
    """Forget what building the model took."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """A figure of Linux's about this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def table(sides: dict[str, dict[str, Any]]) -> str:
    """Both sides as Markdown."""
    plain, ours = sides["plain"], sides["ours"]
    rows = [
        ("steps/s", "steps_per_second", 1.0, ".3f"),
        ("peak memory, GB", "peak", 1e-9, ".2f"),
        ("of it beyond the weights, GB", "beyond_weights", 1e-9, ".2f"),
    ]
    lines = ["| | plain | ours | ours / plain |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {name} | {scale * plain[key]:{form}} | {scale * ours[key]:{form}} "
        f"| {ours[key] / plain[key]:.2f} |"
        for name, key, scale, form in rows
    ]
    for number in (0, len(plain["losses"]) - 1):
        a, b = plain["losses"][number], ours["losses"][number]
        lines.append(f"| loss of step {number + 1} | {a:.6f} | {b:.6f} | {b / a:.6f} |")
    return "\n".join(lines)


def main(
    *,
    side: str = "",
    batch: int = 1,
    masks: int = 100,
    layers: int = 24,
    steps: int = 3,
    threads: int = 2,
    device: str = "cpu",
    out: Path | None = None,
) -> None:
    """Time both sides and print a table.

    Args:
        side: only this side ("plain" or "ours"), as JSON: what the processes of this script run.
        batch: pictures a step.
        masks: proposals a picture.
        layers: of CLIP; fewer than its 24 for a quick look.
        steps: how many are timed, after one that is not.
        threads: of the CPU.
        device: cpu or cuda.
        out: writes OUT.json and OUT.md.
    """
    torch.set_num_threads(threads)
    if side:
        print(json.dumps(run_side(side, batch, masks, layers, steps, torch.device(device))))
        return
    sides = {}
    for name in ("plain", "ours"):
        command = [sys.executable, __file__, "--side", name, "--batch", str(batch)]
        command += [
            "--masks",
            str(masks),
            "--layers",
            str(layers),
            "--steps",
            str(steps),
            "--threads",
            str(threads),
        ]
        done = subprocess.run(
            [*command, "--device", device], check=True, stdout=subprocess.PIPE, text=True
        )
        sides[name] = json.loads(done.stdout.splitlines()[-1])
    print(table(sides))
    if out is not None:
        write_atomically(out.with_suffix(".json"), json.dumps(sides, indent=1).encode())
        write_atomically(out.with_suffix(".md"), f"{table(sides)}\n".encode())


if __name__ == "__main__":
    cyclopts.run(main)
