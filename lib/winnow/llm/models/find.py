"""The language models of a generation: a folder, a name, an id, or a tiny one trained here."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from winnow.artifact import Artifact, create_artifact, open_artifact, up_to_date
from winnow.artifact.digests import model_digest
from winnow.errors import GenerationError
from winnow.llm.models.named import NAMED, folder_of_model
from winnow.llm.models.tiny_model import TinyConfig, train_tiny
from winnow.llm.prompting.fit_context import Tokenizer, hub_name
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.sources import Source

logger = logging.getLogger(__name__)

TINY = "tiny"
"""The model name that stands for the one trained here."""
LONGEST_REASON = 300
"""Characters of a library's message that are repeated."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    source: str
    """An absolute folder, or a Hugging Face id."""
    digest: str
    """Digest of the folder's files, or the id; with the endpoint's address if one answers."""
    context: int = 0
    """Most tokens of a prompt and its answer; 0 if only an engine elsewhere knows."""


def find_model(name: str) -> LanguageModel:
    """The model with this folder, name of `NAMED`, or Hugging Face id.

    Raises:
        GenerationError: the path leads nowhere, its folder holds no model, or the named model has
            not been fetched.
    """
    folder = Path(name)
    if name in NAMED and not folder.is_dir():
        found = folder_of_model(name)
        if found is None or NAMED[name].kind != "language":
            raise GenerationError(_advice(name))
        return LanguageModel(str(found), model_digest(found))
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise GenerationError(f"model={name} is a folder without config.json, so not a model")
        return LanguageModel(str(folder.absolute()), model_digest(folder))
    if name.endswith(".gguf") and folder.is_file():
        raise GenerationError(
            f"model={name} is a GGUF file: `winnow models fetch {name}` makes a folder of it"
        )
    if name.startswith((".", "/", "~")):
        raise GenerationError(f"model={name} is no folder here; name one or a Hugging Face id")
    return LanguageModel(name, name)


def _advice(name: str) -> str:
    if NAMED[name].kind != "language":
        return f"model={name} is an encoder of texts and writes none; `winnow models` lists both"
    return f"model={name} is not here yet: winnow models fetch {name}"


def pinned(model: LanguageModel) -> LanguageModel:
    """The model of an id at the commit that it stands for now; others as they are.

    The id itself stays if its files cannot be had here.
    """
    from huggingface_hub import hf_hub_download

    if Path(model.source).is_dir():
        return model
    name, revision = hub_name(model.source)
    try:
        file = hf_hub_download(name, "config.json", revision=revision)
    except Exception:  # no network, no access, no such id: the engine will say
        return model
    source = f"{name}@{Path(file).parent.name}"  # files of a commit lie in a folder of its name
    return replace(model, source=source, digest=source)


def answering_at(model: LanguageModel, address: str, served_model: str) -> LanguageModel:
    """The model as an endpoint at `address` serves it, under another name if it has one.

    What the address names decides the answers: two endpoints never share a key.
    """
    parts = urlsplit(address)
    if parts.hostname:  # without user, password and query, which may be secrets
        host = parts.netloc.rpartition("@")[2]
        address = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    served = f" as {served_model}" if served_model else ""
    return replace(model, digest=f"{model.digest} at {address}{served}")


def check_loadable(source: str) -> Tokenizer:
    """The tokenizer of the model at a folder or id; GenerationError if it makes no prompts."""
    try:
        return Tokenizer(source)
    except Exception as error:  # the libraries below raise a bare Exception over a broken file
        reason = str(error).partition("\n")[0][:LONGEST_REASON]
        raise GenerationError(f"model={source} cannot be used: {reason}") from error


def make_tiny(
    source: Source, tasks: Sequence[TextTask], config: TinyConfig, output: str
) -> tuple[LanguageModel, Artifact]:
    """The tiny model in `language_model` beside `output`, trained unless it is up to date.

    Raises:
        GenerationError: the source has too few texts to learn from.
    """
    uri = f"{output.rpartition('/')[0]}/language_model"
    templates = [task.template.id for task in tasks]
    recorded = {**asdict(config), "templates": templates, **source.recorded}
    made = up_to_date(uri, "language_model", config=recorded, parents=source.parents)
    if made is None:
        logger.info("training the tiny model, at most %.0f s", config.seconds)
        with create_artifact(
            uri, "language_model", config=recorded, parents=source.parents
        ) as draft:
            draft.metrics |= train_tiny(source, tasks, config, draft.path)
        made = open_artifact(uri)
    return LanguageModel(str(made.path), model_digest(made.path)), made
