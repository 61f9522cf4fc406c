"""Train the three built-in digit classifiers on the CPU and write their weights and cards.

Usage: python scripts/train_builtin.py [--cards] [NAME ...] (all three unless named; a few minutes each on one core).
With --cards the stored weights are measured again and only the cards are written. The recipes are those of
`withstand harden` for digits, with what is told here; the best weights by PGD on validation samples are kept, those of
the last epoch where intervals train. Every figure of a card is measured here, on the held-out images, with withstand's
own attacks and bounds.
"""

import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import withstand
from withstand.bounds import lower_bound
from withstand.builtin.digits import Images, digits_split
from withstand.builtin.models import BUILTIN, INPUT_SHAPE, architecture, builtin_model
from withstand.core.balls import Linf
from withstand.core.evidence import Grade
from withstand.core.judge import needed
from withstand.core.property import Argmax
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.graph.capture import capture
from withstand.graph.ir import Graph
from withstand.hardening.recipe import Recipe
from withstand.hardening.recipes import recipe_for

FOLDER = Path(__file__).resolve().parents[1] / "src" / "withstand" / "builtin" / "weights"
SEED = 0
DOMAIN = (0.0, 1.0)
THREAT = "linf:0.1"
RADII = (0.05, 0.1)
ATTACKS = ("pgd:steps=40,restarts=2", "apgd:steps=100,loss=dlr")
METHODS = ("ibp", "crown")

RECIPES: dict[str, Recipe] = {
    "digits-cnn": recipe_for("natural", "digits"),
    "digits-cnn-pgd": replace(recipe_for("pgd", "digits", ["weight-l1"]), widen=1.1),
    "digits-cnn-cert": recipe_for("ibp:clean=0.3,start=shi", "digits"),
}
"""How each model is trained against linf 0.1."""


def train(name: str) -> dict[str, Tensor]:
    """The weights of a model trained by its recipe."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(SEED)
        done = withstand.harden(architecture(), "digits", THREAT, recipe=RECIPES[name], out=folder, seed=SEED, limit=10)
        return load_file(done.last if "cert" in name else done.best)


def attacked(graph: Graph, images: Images, radius: float) -> Tensor:
    """Whether each image is right when clean and under every attack [N]."""
    right = torch.ones(len(images.x), dtype=torch.bool)
    for text in ATTACKS:
        left = right.nonzero().squeeze(1)
        found = run(
            build("attack", text), graph, images.x[left], images.y[left], Linf(radius, DOMAIN), ids=left.tolist()
        )
        right[left] = found.margin > 0
    return right


def proved(graph: Graph, images: Images, radius: float, open: Tensor) -> Tensor:
    """Whether each image is proved by some method [N], as the judge counts proofs in float32.

    Only the rows `open` [N] are tried, cheap methods first.
    """
    done = torch.zeros_like(open)
    for method in METHODS:
        left = (open & ~done).nonzero().squeeze(1)
        if len(left) == 0:
            break
        rows = Argmax().rows(images.y[left], graph.output_shape[0])
        with torch.no_grad():
            low = lower_bound(method, graph, Linf(radius, DOMAIN), images.x[left], rows)
            done[left] = rows.combine(low) > needed(Grade.FLOAT32, graph(images.x[left]))
    return done


def share(rows: Tensor) -> str:
    """`98.4 % (492 of 500)`."""
    return f"{100 * rows.double().mean():.1f} % ({int(rows.sum())} of {len(rows)})"


def card(name: str, module: nn.Module, images: Images) -> str:
    """The model's card in Markdown, its figures measured now."""
    graph = capture(module, INPUT_SHAPE)
    with torch.no_grad():
        clean = graph(images.x).argmax(1) == images.y
    lines = [f"| 0 | {share(clean)} | {share(clean)} |"]
    for radius in RADII:
        right = attacked(graph, images, radius)
        lines.append(f"| {radius} | {share(proved(graph, images, radius, right))} | {share(right)} |")
    count = sum(weight.numel() for weight in module.parameters())
    paragraphs = (
        f"A small network for handwritten digits, {BUILTIN[name]}. It comes with withstand so that a first audit needs "
        "no download. It is no product: use it to learn what an audit says.",
        "- **Input**: grey images of 8 x 8 pixels in [0, 1], as 1 x 8 x 8. **Output**: ten logits. No normalisation.",
        "- **Architecture**: convolution to 16 channels (3 x 3), convolution to 32 (3 x 3, stride 2), linear to 64, "
        f"linear to 10, with ReLU between them; {count:,} weights.",
        "- **Data**: the 1,797 digits that come inside scikit-learn (E. Alpaydin and C. Kaynak, Optical Recognition of "
        "Handwritten Digits, UCI, 1998), divided by 16.",
        f"- **Split**: rows ordered by the SHA-256 hash of their number; the first {len(images.x)} are held out, the "
        f"other {1797 - len(images.x):,} train, but for a tenth of them that chooses the epoch. Writers are not kept "
        "apart, and no figure of the held-out images is of other writers.",
        f"- **Recipe**: {RECIPES[name]} Against {THREAT}, seed {SEED}.",
        f"## Measured on the {len(images.x)} held-out images",
        "\n".join(["| linf radius | certified accuracy | attacked accuracy |", "|---|---|---|", *lines]),
        "The true robust accuracy lies between the two. The row of radius 0 is the clean accuracy. Certified: a bound "
        f"by {' or '.join(METHODS)} in float32 proves the image; an audit goes on to complete search and proves more "
        "(README.md has its figures). Images that an attack broke are not tried. Attacked: right under "
        f"{' and '.join(f'`{a}`' for a in ATTACKS)}.",
        "The recipe and its constants were chosen with these figures in view, so they flatter the model a little. "
        f"Written by `python scripts/train_builtin.py {name}` with torch {torch.__version__.partition('+')[0]}.",
    )
    text = "\n\n".join([f"# {name}", *map(wrapped, paragraphs)]) + "\n"
    return text.replace("\n\n- **", "\n- **").replace("\n- **Input", "\n\n- **Input")


def wrapped(text: str) -> str:
    """A paragraph or an item of a list in lines of at most 120 characters; tables and headings stay as they are."""
    if text.startswith(("|", "#")):
        return text
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def main(arguments: list[str]) -> None:
    """Train (unless --cards), measure and write each named model."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    _, held_out = digits_split()
    FOLDER.mkdir(exist_ok=True)
    for name in [word for word in arguments if word != "--cards"] or list(RECIPES):
        if "--cards" not in arguments:
            save_file(train(name), FOLDER / f"{name}.safetensors")
        text = card(name, builtin_model(name), held_out)
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
