"""The results of a training: its model without what only training needs, and the files it leaves."""

import copy
from pathlib import Path

from torch import Tensor, nn

from withstand.core.run_files import replacing
from withstand.hardening.objective import Combined, Objective
from withstand.hardening.progress import Progress

EPOCHS, BEST, LAST = "epochs.jsonl", "best.safetensors", "last.safetensors"


def finished(module: nn.Module, objective: Objective, weights: dict[str, Tensor]) -> nn.Module:
    """A copy of a module with these weights, in evaluation mode, without what additions put in for training."""
    made = copy.deepcopy(module)
    made.load_state_dict(weights)
    if isinstance(objective, Combined):
        objective.finish(made)
    return made.eval()


def write_results(folder: Path, progress: Progress, best: nn.Module, last: nn.Module) -> None:
    """Replace the records of the epochs and the weights of the best and the last one."""
    from safetensors.torch import save

    with replacing(folder / EPOCHS) as file:
        file.write("".join(record.model_dump_json() + "\n" for record in progress.history).encode())
    for name, module in ((BEST, best), (LAST, last)):
        weights = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
        with replacing(folder / name) as file:
            file.write(save(weights))
