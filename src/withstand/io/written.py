"""Texts that a file holds. They are data, and code that they name runs by the user's word only."""

from dataclasses import dataclass

from withstand.core.errors import InputError


@dataclass(frozen=True)
class Written:
    """A text that stands in a file, such as the model of a run's record or the property of a witness.

    where: the file, for sentences. trust: the user has said that the code which the file names may run; even then only
    classes of modules and properties, and functions marked by `withstand.factory`, are called.
    """

    text: str
    where: str
    trust: bool = False

    def __str__(self) -> str:
        return self.text

    def must_be_trusted(self, what: str) -> None:
        """Raise InputError unless the user trusts the file. what: `model` or `property`."""
        if not self.trust:
            raise InputError(
                f"{self.where} names the {what} {self.text!r}, and to find it runs code that the file chose; "
                "nothing was run: look at it, then allow it with --trust (in Python trust=True)."
            )
