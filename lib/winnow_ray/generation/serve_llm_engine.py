"""A Ray Serve LLM deployment that generation shares with online traffic, as an `Engine`."""

from dataclasses import replace
from functools import partial
from typing import Any

from winnow.errors import GenerationError
from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.engines.dialect import Dialect, Spelling
from winnow.llm.engines.openai_json import (
    fitting,
    is_over_context,
    payload,
    read_completion,
    tokens_cut,
)
from winnow.llm.engines.refusals import REFUSALS, Refusals
from winnow.llm.engines.vllm_config import ServeLlmConfig
from winnow.llm.prompting.request import Request
from winnow_ray.generation.causes import cause_of

SERVER = "LLMServer"
"""Beginning of Ray's names for deployments that hold an engine; the model's id follows."""


class ServeLlmEngine:
    """Engine that calls the deployment directly, without a proxy in between."""

    def __init__(self, config: ServeLlmConfig, source: str) -> None:
        """Find the deployment. `source` is the model's folder or id that the job names."""
        from ray import serve

        application = serve.status().applications.get(config.app)
        deployments = application.deployments if application else {}
        servers = [name for name in deployments if name.startswith(SERVER)]
        if not servers:
            raise GenerationError(
                f"serve.app={config.app} is no Serve application with an LLM deployment here"
            )
        self._handle: Any = serve.get_deployment_handle(servers[0], config.app).options(stream=True)
        self._served_model = config.served_model or source
        self._max_tokens = config.max_tokens
        self._spelling = Spelling()
        self._refusals = Refusals(REFUSALS)

    async def complete(self, request: Request) -> Completion:
        """Answer a request, with its prompt cut until it fits the model's context."""
        self._refusals.check()
        return await self._refusals.completion(self._fitted(request))

    async def _fitted(self, request: Request) -> tuple[Completion | None, str]:
        """The completion of the largest version that fits; or None, and the words against it."""
        error = ""
        for version in fitting(request, self._max_tokens):
            completion, error = await self._spelling.send(partial(self._call, version), _refusal)
            if completion is not None:
                cut = tokens_cut(request, version, completion.prompt_tokens)
                return replace(completion, trimmed=cut), ""
            if not is_over_context(error):
                break
        return None, error

    async def _call(self, request: Request, dialect: Dialect) -> tuple[Completion | None, str]:
        """The completion, or None and what the deployment says is wrong with the request."""
        import ray.exceptions
        from pydantic import TypeAdapter
        from ray.serve.exceptions import RayServeException
        from ray.serve.llm.openai_api_models import ChatCompletionRequest, EmbeddingRequest

        body = payload(request, self._served_model, dialect)
        try:
            if request.for_vector:
                vector_request = TypeAdapter(EmbeddingRequest).validate_python(body)
                stream = self._handle.embeddings.remote(vector_request)
            else:
                stream = self._handle.chat.remote(ChatCompletionRequest(**body))
            async for response in stream:
                made = read_completion(response.model_dump())
                if made.error:
                    return None, made.error
                return replace(made, engine=dialect.named(made.engine)), ""
        except (ray.exceptions.RayError, RayServeException) as error:
            raise EngineUnavailable(f"the LLM deployment failed: {cause_of(error)}") from error
        return None, "the deployment gave no response"

    async def close(self) -> None:
        """Do nothing: the engine belongs to the application."""


def _refusal(called: tuple[Completion | None, str]) -> str:
    """What a call says against the way in which it was spelled."""
    completion, error = called
    return "" if completion is not None or is_over_context(error) else error
