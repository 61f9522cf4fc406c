"""The Lipschitz constants of a model, from both sides."""

from withstand.auditing.question import in_eval_mode
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.io.data import DataLike, arrange, load_data
from withstand.io.models import ModelLike, load_model
from withstand.lipschitz.constants import Constants, Norm, constants


@checked
def lipschitz_constants(
    model: ModelLike, norm: Norm = "l2", *, data: "DataLike | None" = None, limit: int | None = None
) -> Constants:
    """Bounds of how much a model's outputs can change for a change of its input, over all inputs: by method, by layer
    and by pair of outputs, each certified, an estimate or a lower bound.

    norm: in which changes of inputs and of outputs are measured, `l2`, `linf` or `l1`. data: inputs near which the
    steepest change is looked for, the first `limit` of them (none: random points of [0, 1]); a module in memory takes
    its input shape from them.

    Raises InputError when the model cannot be used or an operator of it has no constant over all inputs.
    """
    if limit is not None and limit < 1:
        raise InputError(f"The limit {limit} leaves no sample; give 1 or more.")
    samples = None if data is None else load_data(data, None).head(limit)
    with in_eval_mode(model):
        loaded = load_model(model) if samples is None else load_model(model, samples.shape, samples.x)
        loaded.check_weights()
        if loaded.graph is None or loaded.differs is not None:
            why = loaded.why_no_graph or loaded.differs
            raise InputError(f"{loaded.name} has no Lipschitz constant that can be bounded: {why}")
        return constants(
            loaded.graph,
            norm,
            None if samples is None else arrange(samples.of_type(loaded.dtype), loaded.input_shape).x,
        )
