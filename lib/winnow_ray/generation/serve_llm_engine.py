"""A Ray Serve LLM deployment that generation shares with online traffic, as an `Engine`."""

from dataclasses import replace
from typing import Any

from winnow.errors import GenerationError
from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.engines.openai_json import (
    ERROR_CHARACTERS,
    fitting,
    is_over_context,
    payload,
    read_completion,
)
from winnow.llm.engines.vllm_config import ServeLlmConfig
from winnow.llm.prompting.request import Request

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

    async def complete(self, request: Request) -> Completion:
        """Answer a request, with its prompt cut until it fits the model's context."""
        for version in fitting(request, self._max_tokens):
            body, error = await self._call(version)
            if body is not None:
                completion = read_completion(body)
                return replace(completion, trimmed=version.messages != request.messages)
            if not is_over_context(error):
                break
        return Completion(finish_reason="error", error=error[:ERROR_CHARACTERS])

    async def _call(self, request: Request) -> tuple[dict[str, Any] | None, str]:
        """The response's JSON, or None and what the deployment says is wrong with the request."""
        import ray.exceptions
        from pydantic import TypeAdapter
        from ray.serve.exceptions import RayServeException
        from ray.serve.llm.openai_api_models import ChatCompletionRequest, EmbeddingRequest

        body = payload(request, self._served_model)
        try:
            if request.schema:
                stream = self._handle.chat.remote(ChatCompletionRequest(**body))
            else:
                vector_request = TypeAdapter(EmbeddingRequest).validate_python(body)
                stream = self._handle.embeddings.remote(vector_request)
            async for response in stream:
                found = response.model_dump()
                if found.get("error"):
                    return None, str(found["error"]["message"])
                return found, ""
        except (ray.exceptions.RayError, RayServeException) as error:
            raise EngineUnavailable(f"the LLM deployment failed: {error}") from error
        return None, "the deployment gave no response"

    async def close(self) -> None:
        """Do nothing: the engine belongs to the application."""
