"""Train the three built-in digit classifiers on the CPU and write their weights and cards.

Usage: python scripts/train_builtin.py [--cards] [NAME ...] (all three unless named; a few minutes each on one core).
With --cards the stored weights are measured again and only the cards are written. Every figure of a card is measured
here, on the held-out images, with withstand's own attacks and bounds.
"""

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from withstand.bounds import interval, lower_bound
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

FOLDER = Path(__file__).resolve().parents[1] / "src" / "withstand" / "builtin" / "weights"
BATCH = 128
SEED = 0
DOMAIN = (0.0, 1.0)
RADII = (0.05, 0.1)
ATTACKS = ("pgd:steps=40,restarts=2", "apgd:steps=100,loss=dlr")
METHODS = ("ibp", "crown")

Loss = Callable[[Graph, Tensor, Tensor, float, torch.Generator], Tensor]
"""(graph, x, y, share of the training done, random numbers) to the loss of a batch."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. peak: the largest learning rate, of Adam, reached after a fifth of the steps and then
    lowered along a cosine. small: start from weights of standard deviation sqrt(2 pi) / fan-in. text: for the card."""

    loss: Loss
    epochs: int
    peak: float
    small: bool
    text: str


def plain(graph: Graph, x: Tensor, y: Tensor, done: float, numbers: torch.Generator) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(graph(x), y)


PGD_RADIUS, PGD_STEPS, PGD_STEP, PGD_WARM_UP, PGD_L1 = 0.11, 5, 0.35, 0.2, 3e-4


def adversarial(graph: Graph, x: Tensor, y: Tensor, done: float, numbers: torch.Generator) -> Tensor:
    """Cross-entropy at points found by PGD (Madry et al. 2018, arXiv:1706.06083), plus the weights' absolute sum
    (Xiao et al. 2019, arXiv:1809.03008), which keeps bounds on the model tight."""
    radius = PGD_RADIUS * min(1.0, done / PGD_WARM_UP)
    threat = Linf(radius, DOMAIN)
    noise = torch.rand(x.shape, generator=numbers) * 2 - 1
    at = (x + radius * noise).clamp(*DOMAIN)
    for _ in range(PGD_STEPS):
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(graph(at), y), at)
        at = threat.project(x, at + PGD_STEP * radius * grad.sign())
    size = torch.stack([weight.abs().sum() for weight in graph.buffers() if weight.dim() > 1]).sum()
    return F.cross_entropy(graph(at.detach()), y) + PGD_L1 * size


IBP_RADIUS, IBP_WARM_UP, IBP_CLEAN = 0.1, 0.6, 0.3


def certified(graph: Graph, x: Tensor, y: Tensor, done: float, numbers: torch.Generator) -> Tensor:
    """A blend of cross-entropy at x and at the interval bounds of the margins (Gowal et al. 2018, arXiv:1810.12715)."""
    ramp = min(1.0, done / IBP_WARM_UP)
    radius, clean = IBP_RADIUS * ramp, 1 - (1 - IBP_CLEAN) * ramp
    boxes = interval(graph, (x - radius).clamp(*DOMAIN), (x + radius).clamp(*DOMAIN))
    last = graph.nodes[-1]
    low, high = boxes[last.inputs[0]]
    weight, bias = (graph.constant(name) for name in last.inputs[1:])
    rows, offset = weight[y][:, None] - weight, bias[y][:, None] - bias
    centre, reach = (low + high)[:, :, None] / 2, (high - low)[:, :, None] / 2
    margins = (rows @ centre - rows.abs() @ reach).squeeze(2) + offset
    return clean * F.cross_entropy(graph(x), y) + (1 - clean) * F.cross_entropy(-margins, y)


RECIPES = {
    "digits-cnn": Recipe(plain, 60, 4e-3, False, "Cross-entropy."),
    "digits-cnn-pgd": Recipe(
        adversarial,
        100,
        5e-3,
        False,
        f"Cross-entropy at the points that {PGD_STEPS} steps of PGD find from a random start within linf "
        f"{PGD_RADIUS} (steps of {PGD_STEP} of the radius, which grows over the first {PGD_WARM_UP:.0%} of training), "
        f"plus {PGD_L1:g} times the absolute sum of the weights.",
    ),
    "digits-cnn-cert": Recipe(
        certified,
        300,
        4e-3,
        True,
        f"Cross-entropy of the worst margins by interval bounds, blended with that of the clean images. Over the first "
        f"{IBP_WARM_UP:.0%} of training the radius grows to linf {IBP_RADIUS} and the clean part falls from 1 to "
        f"{IBP_CLEAN}.",
    ),
}


def shifted(x: Tensor, numbers: torch.Generator) -> Tensor:
    """Half of the images, moved by up to one pixel each way; the edge is filled with 0."""
    count, _, height, width = x.shape
    offset = torch.randint(0, 3, (2, count, 1), generator=numbers)
    offset[:, torch.rand(count, generator=numbers) < 0.5] = 1
    rows, columns = offset[0] + torch.arange(height), offset[1] + torch.arange(width)
    return F.pad(x, (1, 1, 1, 1))[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None]][:, None]


def shrink(module: nn.Module) -> None:
    """Start for interval training: bounds neither grow nor vanish with depth (Shi et al. 2021, arXiv:2103.17268)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, 0, (2 * torch.pi) ** 0.5 / layer.weight[0].numel())
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def train(recipe: Recipe, images: Images) -> nn.Module:
    """The architecture trained by a recipe: the op graph's constants learn, then go back to the module."""
    torch.manual_seed(SEED)
    numbers = torch.Generator().manual_seed(SEED)
    module = architecture()
    if recipe.small:
        shrink(module)
    graph = capture(module, INPUT_SHAPE)
    weights = [weight.requires_grad_() for weight in graph.buffers()]
    steps = recipe.epochs * -(-len(images.x) // BATCH)
    optimiser = torch.optim.Adam(weights, recipe.peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.peak, steps, pct_start=0.2)
    step = 0
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(images.x), generator=numbers).split(BATCH):
            loss = recipe.loss(graph, shifted(images.x[rows], numbers), images.y[rows], step / steps, numbers)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 8.0)
            optimiser.step()
            schedule.step()
            step += 1
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return module.eval()


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
    recipe = RECIPES[name]
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
        f"other {1797 - len(images.x):,} train. Writers are not kept apart, and no figure of the held-out images is of "
        "other writers.",
        f"- **Recipe**: {recipe.text} Adam, {recipe.epochs} epochs of batches of {BATCH}, learning rate up to "
        f"{recipe.peak:g} and down along a cosine, gradients clipped to length 8, half of the images moved by up to "
        f"one pixel, seed {SEED}.",
        f"## Measured on the {len(images.x)} held-out images",
        "\n".join(["| linf radius | certified accuracy | attacked accuracy |", "|---|---|---|", *lines]),
        "The true robust accuracy lies between the two. The row of radius 0 is the clean accuracy. Certified: a bound "
        f"by {' or '.join(METHODS)} in float32 proves the image, as in an audit; images that an attack broke are not "
        f"tried. Attacked: right under {' and '.join(f'`{a}`' for a in ATTACKS)}.",
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
    training, held_out = digits_split()
    FOLDER.mkdir(exist_ok=True)
    for name in [word for word in arguments if word != "--cards"] or list(RECIPES):
        if "--cards" not in arguments:
            save_file(dict(train(RECIPES[name], training).state_dict()), FOLDER / f"{name}.safetensors")
        text = card(name, builtin_model(name), held_out)
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
