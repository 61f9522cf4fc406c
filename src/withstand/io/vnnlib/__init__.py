"""VNN-LIB (www.vnnlib.org): questions about a network read from text, written as text, and witnesses of answers.

1.0, the form of VNN-COMP, is read and written here; 2.0 is read with the package `vnnlib`.
"""

from withstand.io.vnnlib.reader import read_vnnlib
from withstand.io.vnnlib.regions import Region
from withstand.io.vnnlib.writer import write_vnnlib, write_witness

__all__ = ["Region", "read_vnnlib", "write_vnnlib", "write_witness"]
