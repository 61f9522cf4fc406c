"""Certificates of questions, kept while searches make them."""

from withstand.checker.builder import Builder
from withstand.checker.certificate import Rows
from withstand.checker.network import Network
from withstand.checker.region import Region


class Proof:
    """The certificate of one question, in the making: rows over a region of a network, as the checker reads them.

    A search that starts on the question calls `begin` and tells the builder what it does; what an earlier search told
    is forgotten, since only one of them settles the question.
    """

    def __init__(self, network: Network, region: Region, rows: Rows) -> None:
        self.network, self.region, self.rows = network, region, rows
        self.builder = Builder(network, region, rows)

    def begin(self) -> Builder:
        """An empty certificate for a new search."""
        self.builder = Builder(self.network, self.region, self.rows)
        return self.builder
