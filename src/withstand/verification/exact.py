"""Single domains of a reduced network solved by a linear program, in the terms of the search."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from withstand.verification.dual import Dual
from withstand.verification.milp.leaf import Domain, Leaf, ReluState, Rows
from withstand.verification.reduced import Neurons, Reduced


class Exact:
    """Linear programs over the domains of one reduced network.

    fits: whether its blocks are ReLUs over a box; what does not fit keeps the bound it has.
    """

    def __init__(self, network: Reduced) -> None:
        self.network = network
        relus = all(isinstance(block, Neurons) and block.rule.op == "relu" for block in network.blocks)
        self.fits = relus and network.region.boxed

    @cached_property
    def _leaf(self) -> Leaf:
        blocks = [(_array(block.weight), _array(block.bias)) for block in self.network.blocks]
        return Leaf(ReluState(self.network.inputs, blocks))

    @cached_property
    def _rows(self) -> Rows:
        return Rows(_array(self.network.weight), _array(self.network.offset))

    def least(self, domain: Dual, member: Tensor) -> tuple[float, Tensor | None, Dual, Tensor]:
        """The least value over a domain (a batch of one) of the largest of the rows `member` [R], bent neurons relaxed.

        Returns a bound, the point where the program is least (None where there is none), the choices that prove the
        bound and the mix of rows [1, R].
        """
        low, high = (_array(end) for end in self.network.region.box)
        held = Domain(low, high, *(_array(t[0]) for t in (domain.low, domain.high, domain.phase)))
        rows = member.nonzero().squeeze(1)
        answer = self._leaf.least(held, Rows(self._rows.weight[rows.numpy()], self._rows.offset[rows.numpy()]))
        like = domain.low
        mix = like.new_zeros(1, len(member))
        mix[0, rows] = torch.from_numpy(answer.choices.mix).to(like)
        lower, price = (torch.from_numpy(t).to(like)[None] for t in (answer.choices.slopes, answer.choices.prices))
        proof = Dual(domain.low, domain.high, lower, domain.upper, domain.phase, price)
        point = None if answer.x is None else torch.from_numpy(answer.x).to(like)
        bound = answer.bound if answer.bound < np.inf else -np.inf  # NaN and overflow are no news
        return bound, point, proof, mix


def _array(tensor: Tensor):
    return tensor.double().numpy()
