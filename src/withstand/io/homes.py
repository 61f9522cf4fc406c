"""Where Python code lives: in the standard library, in an installed package, or in the user's own files."""

import importlib.util
import sys
import sysconfig
from enum import IntEnum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any


class Home(IntEnum):
    """Who wrote a piece of code; of two guesses the smaller one counts."""

    STANDARD = 0
    LOADER = 1
    INSTALLED = 2
    OWN = 3


LOADERS = frozenset(
    (
        *("_pytest", "accelerate", "bentoml", "catboost", "cffi", "click", "cloudpickle", "cv2", "dask"),
        *("diffusers", "dill", "distributed", "execnet", "fabric", "fastai", "fire", "flax", "fsspec", "gensim"),
        *("h5py", "hickle", "httpx", "huggingface_hub", "hydra", "imageio", "invoke", "ipykernel", "IPython"),
        *("jax", "jinja2", "joblib", "jsonpickle", "keras", "klepto", "lightgbm", "lightning", "lightning_fabric"),
        *("loky", "mlflow", "monai", "mpmath", "nltk", "notebook", "numba", "numexpr", "numpy", "omegaconf"),
        *("onnx", "onnxruntime", "pandas", "peft", "pexpect", "pickle5", "PIL", "pip", "pkg_resources", "plumbum"),
        *("polars", "psutil", "pyarrow", "pytest", "pytorch_lightning", "ray", "requests", "ruamel"),
        *("safetensors", "scipy", "setuptools", "sh", "six", "skl2onnx", "sklearn", "skops", "spacy", "sympy"),
        *("tables", "tensorflow", "timm", "torch", "torch_geometric", "torchaudio", "torchtext", "transformers"),
        *("typer", "ultralytics", "urllib3", "wandb", "wheel", "xarray", "xgboost", "yaml", "zarr"),
    )
)
"""Installed packages whose functions read pickles, fetch files or run what they are told; none of theirs is called."""

_ROOTS = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def home_of_module(name: str) -> Home:
    """The home of a module or package by its dotted name; nothing is imported."""
    top = name.partition(".")[0]
    if top == "withstand":
        return Home.INSTALLED
    return _home(_origin(top), top)


def home_of_code(value: Any) -> Home:
    """The home of a function or a class: where its module lies, and a Python function's code."""
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__module__", None)
    if not isinstance(name, str) and isinstance(value, BuiltinFunctionType):
        name = getattr(owner, "__name__", None) or type(owner).__module__
    found = home_of_module(name) if isinstance(name, str) else Home.STANDARD
    if isinstance(value, FunctionType):
        top = str(value.__globals__.get("__name__", "")).partition(".")[0]
        found = min(found, _home(value.__code__.co_filename, top))
    return found


def _origin(top: str) -> str:
    """The file that a top-level module is read from, or `<frozen ...>` where it is part of Python."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, AttributeError, ValueError):
        return ""
    if spec is None:
        return "<frozen>" if top in sys.stdlib_module_names else ""
    if spec.origin in ("built-in", "frozen"):
        return "<frozen>"
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    return str(places[0]) if places else ""


def _home(file: str, top: str) -> Home:
    """The home of a file that belongs to a top-level module."""
    if file.startswith("<frozen"):
        return Home.STANDARD
    if not file or file.startswith("<"):
        return Home.STANDARD if top in sys.stdlib_module_names else Home.OWN
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return Home.LOADER if top in LOADERS else Home.INSTALLED
    return Home.STANDARD if any(path.is_relative_to(root) for root in _ROOTS) else Home.OWN
