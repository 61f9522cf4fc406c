"""Certificates of searches that split boxes of inputs: their trees, cuts and claims, in the proofs of a problem."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from withstand.checker.builder import Builder
from withstand.checker.certificate import PARALLEL, TWICE
from withstand.core.property import Rows
from withstand.verification.problem import Problem


class BoxProofs:
    """What a search over boxes tells the certificates of its questions.

    A box is known by its node; boxes [K] of several questions come together. mixed: the rows that the search bounds,
    each a mean of some of the question's own (`mix` [M, R] has the weights). A group's own rows and its first mean cut.
    """

    def __init__(self, problem: Problem, mixed: Rows, mix: Tensor) -> None:
        assert problem.proofs is not None
        self.builders = [proof.begin() for proof in problem.proofs]
        self._group, group = mixed.group, mixed.group.numpy()
        own = [np.flatnonzero(problem.rows.group.numpy() == number) for number in range(int(group.max()) + 1)]
        width = max(map(len, own))
        self._weight = np.zeros((len(group), width))
        for row, number in enumerate(group):
            self._weight[row, : len(own[number])] = mix[row, own[number]].numpy()
        cutting = [np.flatnonzero(group == number)[: len(rows) + 1] for number, rows in enumerate(own)]
        self._cutting = torch.from_numpy(np.concatenate(cutting))

    def roots(self) -> Tensor:
        """The nodes of whole questions."""
        roots = [builder.root() for builder in self.builders]
        for builder, root in zip(self.builders, roots, strict=True):
            builder.anchor(np.array([root]), TWICE)
        return torch.tensor(roots)

    def claim(self, question: Tensor, node: Tensor, done: Tensor, row: Tensor, parallel: Tensor) -> None:
        """Claim the groups done [K, G] at nodes [K], each by a row [K, G]; parallel [K, M]: which rows are bounded
        better over parallel lines."""
        box, group = done.nonzero(as_tuple=True)
        best = row[box, group]
        kind = torch.where(parallel[box, best], PARALLEL, -1)
        for builder, mine in self._by_question(question[box]):
            at = node[box[mine]].numpy()
            builder.anchor(at)
            builder.claim(at, group[mine].numpy(), self._weight[best[mine].numpy()], kind[mine].numpy())

    def cut(self, question: Tensor, node: Tensor, groups: Tensor, parallel: Tensor) -> Tensor:
        """Cut boxes by lines of their open groups [K, G], and give the nodes of what is left."""
        left = node.clone()
        box, place = groups[:, self._group[self._cutting]].nonzero(as_tuple=True)
        row = self._cutting[place]
        kind = torch.where(parallel[box, row], PARALLEL, -1)
        for builder, mine in self._by_question(question[box]):
            rows = row[mine].numpy()
            builder.claim(node[box[mine]].numpy(), self._group[rows].numpy(), self._weight[rows], kind[mine].numpy())
        for builder, mine in self._by_question(question):
            builder.anchor(node[mine].numpy(), TWICE)
            left[mine] = torch.from_numpy(builder.cut(node[mine].numpy()))
        return left

    def split(self, question: Tensor, node: Tensor, axis: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
        """Split boxes at inputs and points, both [K]: the nodes of both halves."""
        left, right = node.clone(), node.clone()
        for builder, mine in self._by_question(question):
            parts = (part[mine].numpy() for part in (node, axis, point))
            left[mine], right[mine] = map(torch.from_numpy, builder.split_input(*parts))
        return left, right

    def _by_question(self, question: Tensor) -> Iterator[tuple[Builder, Tensor]]:
        """Each question met, and the places where it is met."""
        for number in question.unique().tolist():
            yield self.builders[number], (question == number).nonzero().squeeze(1)
