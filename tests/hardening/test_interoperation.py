"""The objectives inside other people's loops: each example trains to a band, and all to the same weights."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from withstand.builtin.digits import digits_split
from withstand.builtin.models import architecture
from withstand.hardening.standing import standing

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
"""Both are raised by Lightning: the first about its data loaders, the second by its own use of torch."""


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def trained(name: str) -> tuple[dict[str, torch.Tensor], float]:
    """The weights that an example ends with, by the names of the bare model, and the robust accuracy that it tells."""
    module, robust = example(name).main()
    return {key.removeprefix("model."): value.detach() for key, value in module.state_dict().items()}, robust


@pytest.mark.parametrize("name", ["harden_in_a_loop", "harden_in_lightning", "harden_in_fabric"])
def test_an_example_trains_a_model_that_withstands(name: str) -> None:
    weights, robust = trained(name)
    assert 0.65 < robust < 0.95
    assert all(bool(value.isfinite().all()) for value in weights.values())


@pytest.mark.parametrize("name", ["harden_in_lightning", "harden_in_fabric"])
def test_it_is_the_training_of_the_bare_loop(name: str) -> None:
    bare, told = trained("harden_in_a_loop")
    weights, robust = trained(name)
    assert bare.keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in bare.items())
    assert robust == pytest.approx(told)


def slope(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of the loss by the input, taken as one would outside of inference mode."""
    with torch.enable_grad():
        at = x.clone().requires_grad_()
        return torch.autograd.grad(nn.functional.cross_entropy(model(at), y), at)[0]


def test_lightning_validates_in_inference_mode_where_an_attack_of_ones_own_fails() -> None:
    import lightning

    class Validated(example("harden_in_lightning").Hardened):
        def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
            x, y = batch
            assert torch.is_inference_mode_enabled()
            assert x.is_inference()
            with pytest.raises(RuntimeError):
                slope(self.model, x, y)
            self.seen = standing(self.model, x, y, "linf:0.1")
            self.loss = self.objective(self.model, x, y, self.state).value

    module, data = Validated(), digits_split()[1]
    trainer = lightning.Trainer(**QUIET)
    trainer.validate(module, DataLoader(TensorDataset(data.x[:30], data.y[:30]), batch_size=30), verbose=False)
    outside = standing(module.model, data.x[:30], data.y[:30], "linf:0.1")
    assert torch.equal(module.seen.robust, outside.robust)
    assert torch.equal(module.seen.clean, outside.clean)
    assert float(module.loss) == pytest.approx(
        float(module.objective(module.model, data.x[:30], data.y[:30], module.state).value.detach()), rel=1e-5
    )


def test_attacks_stay_in_float32_under_fabrics_reduced_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[tuple[bool, torch.dtype]] = []
    fabrics, plain = example("harden_in_fabric"), architecture

    def watched() -> nn.Module:
        module = plain()
        module[0].register_forward_hook(
            lambda layer, inputs, output: passes.append((torch.is_autocast_enabled("cpu"), output.dtype))
        )
        return module

    monkeypatch.setattr(fabrics, "architecture", watched)
    fabrics.main(precision="bf16-mixed", epochs=1)
    in_attacks, in_losses = passes[0:22:2], passes[1:22:2]
    assert set(in_attacks) == {(False, torch.float32)}
    assert set(in_losses) == {(True, torch.bfloat16)}
