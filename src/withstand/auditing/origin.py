"""Where and with what a run is made."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import withstand
from withstand.auditing.question import Question
from withstand.core.records import Origin

PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "scipy", "pydantic")
"""Packages whose versions may change results."""


def origin_of(question: Question) -> Origin:
    """The record of this machine, these packages, this model and data."""
    return Origin(
        withstand=withstand.__version__,
        python=sys.version.split()[0],
        packages={name: found for name in PACKAGES if (found := _version(name))},
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        device=question.device,
        git=_commit(),
        model_digest=question.model.digest(),
        data_digest=question.data.digest(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the folder the run was started in, where that is a git checkout."""
    try:
        told = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None if told.returncode == 0 else None
