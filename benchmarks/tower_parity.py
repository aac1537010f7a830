"""How far our towers of published sizes are from timm's and open_clip's, in float32.

COMMAND
    python benchmarks/tower_parity.py [NAME...]

    minutes on two processor cores, and 8 GB of memory for the largest

`tests/references/record_towers.py` recorded what the references answer with weights that follow
from the tensors' names; here they are made again, mapped by our converter, and asked the same. The
bar is an error of 1e-5, of answers whose deviation is about 1.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cyclopts
import torch
from safetensors import safe_open

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))
from masqclip.clip.masked_vision import MaskQueries, embed_masks, encode_image  # noqa: E402
from masqclip.towers.families import family_of, tower_of  # noqa: E402
from masqclip.towers.timm_clip import timm_clip_kind, timm_clip_to_model  # noqa: E402
from tower_recipe import picture, tokens, weights  # noqa: E402

BAR = 1e-5


@torch.no_grad()
def largest_errors(file: Path) -> dict[str, float]:
    """The largest error of each recorded answer, by its name."""
    with safe_open(file, "pt") as opened:
        shapes = json.loads(opened.metadata()["shapes"])
        answers = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    given = weights(shapes)
    kind = timm_clip_kind(given)
    assert kind is not None, file
    config, found = timm_clip_to_model(kind, given)
    with torch.device("meta"):
        model = family_of(kind).model_class(config)
    model.load_state_dict(found, strict=True, assign=True)
    # What is not saved was described only; a text tower has nothing else.
    positions = torch.arange(config.text_config.max_position_embeddings)[None]
    model.text_model.embeddings.position_ids = positions
    if kind == "siglip":
        places = model.vision_model.embeddings.num_positions
        model.vision_model.embeddings.position_ids = torch.arange(places)[None]
    del given, found
    tower = tower_of(model.eval())
    queries = MaskQueries(tower)
    queries.start(tower, "clip")
    errors = {}
    for name, answer in answers.items():
        if name == "text":
            text = config.text_config
            ids = tokens(text.vocab_size, text.max_position_embeddings, (1, 3, 6))
            pooled = model.text_model(input_ids=ids).pooler_output
            ours = pooled if kind == "siglip" else model.text_projection(pooled)
        else:
            rows, columns = map(int, name.removeprefix("image-").split("x"))
            pixels = picture((rows, columns), len(answer))
            seen = rows // tower.patch_size * (columns // tower.patch_size)
            everything = torch.ones(len(answer), 1, seen, dtype=torch.bool)
            ours = embed_masks(tower, queries, encode_image(tower, pixels), everything)[:, 0]
        errors[name] = float((ours - answer).abs().max())
    return errors


def main(*names: str) -> int:
    """Print the errors of models, and say whether all are below the bar."""
    worst = 0.0
    for file in sorted((TESTS / "data" / "towers").glob("full-*.safetensors")):
        name = file.stem.removeprefix("full-")
        if names and name not in names:
            continue
        start = time.perf_counter()
        errors = largest_errors(file)
        worst = max(worst, *errors.values())
        shown = ", ".join(f"{what} {error:.1e}" for what, error in errors.items())
        print(f"{name}: {shown} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"largest error {worst:.1e}, bar {BAR:.0e}")
    return int(worst > BAR)


if __name__ == "__main__":
    cyclopts.run(main)
