"""Why files are no question, told by a process that has loaded nothing heavy: by one whose worker has not come so far.

A worker that starts or reads for longer than a question's time would turn a file with a fault into a `timeout`.
"""

import threading

from withstand.core.errors import InputError
from withstand.io.instances import Instance

SMALL = 2**22
"""Bytes up to which a file is looked at."""

PATIENCE = 1.0
"""Seconds past a time limit that the look may take to its end; of files that are not small it ends at once."""


class Look:
    """A look at the files of a question, in a thread of its own, which begins at once."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.told = ""
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def refusal(self) -> str:
        """What is wrong with the files, in a sentence; empty where nothing was found in time."""
        self._thread.join(PATIENCE)
        return self.told

    def _look(self) -> None:
        try:
            look(self.instance)
        except InputError as error:
            self.told = " ".join(str(error).split())
        except Exception:  # what is not understood here is the worker's to tell
            return


def look(instance: Instance) -> None:
    """Raise InputError where a file is missing or cannot be parsed, or the network has other numbers of inputs or
    outputs than the question speaks of."""
    network, question = instance.network, instance.question
    if not network.is_file():
        raise InputError(f"There is no file '{network}'; correct the path of the network.")
    if question.is_file() and question.stat().st_size > SMALL:
        return
    from withstand.io.vnnlib.reader import read_asserted

    asserted = read_asserted(question, "float64")
    if network.suffix.lower() != ".onnx" or network.stat().st_size > SMALL:
        return
    from withstand.graph.onnx_file import parse_onnx, sizes

    inputs, outputs = sizes(parse_onnx(network))
    if inputs and asserted.inputs not in inputs:
        raise InputError(f"{question}: the file declares {asserted.inputs} inputs, the network takes {min(inputs)}.")
    if outputs and asserted.outputs not in outputs:
        raise InputError(f"{question}: the file speaks of {asserted.outputs} outputs, the network has {min(outputs)}.")
