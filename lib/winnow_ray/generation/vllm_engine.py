"""vLLM in this process, as a `winnow.llm.engines.base.Engine`.

Four things make it as fast as vLLM's own `LLM.generate`; a stage of `ray.data.llm` has none of
them. Only finished outputs leave the engine. Text is decoded once from all its tokens instead of
token by token. Requests with equal sampling parameters share the parsed ones. Prompts become
tokens in a thread of their own.
"""

import asyncio
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, TypeVar

import psutil

from winnow.llm.engines.base import Completion, EngineDied, EngineUnavailable
from winnow.llm.engines.vllm_config import EngineConfig
from winnow.llm.prompting.fit_context import Tokenizer, UnusablePrompt, hub_name
from winnow.llm.prompting.request import Request

Result = TypeVar("Result")


def check_names(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise EngineUnavailable for an argument that this vLLM does not have."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            told = f"did you mean {near[0]!r}?" if near else "see vllm.EngineArgs"
            raise EngineUnavailable(f"engine.args: vLLM has no argument {name!r}; {told}")


class VllmEngine:
    """One engine, bound to the event loop of the first `complete`."""

    def __init__(self, source: str, config: EngineConfig, *, vectors: bool) -> None:
        """Start the engine, which takes half a minute or more.

        Args:
            source: folder or id of the model.
            config: sizes of the engine.
            vectors: whether it computes hidden states instead of text; an engine does only one.
        """
        import vllm
        from vllm import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

        check_names(config.args, [field.name for field in fields(AsyncEngineArgs)])
        before = set(psutil.Process().children(recursive=True))
        name, revision = hub_name(source)
        pooler = {"pooler_config": pooler_config()} if vectors else {}
        arguments = AsyncEngineArgs(
            model=name,
            revision=revision,
            tokenizer_revision=revision,
            **config.arguments(vectors=vectors),
            **pooler,
        )
        self._engine = AsyncLLM.from_engine_args(
            arguments,
            usage_context=UsageContext.LLM_CLASS,  # decides how much it takes in one step
            stat_loggers=[RayPrometheusStatLogger],
        )
        started = set(psutil.Process().children(recursive=True)) - before
        self._leash = Leash([process.pid for process in started])
        made = self._engine.model_config
        self._context: int = made.max_model_len
        number_format = str(made.dtype).removeprefix("torch.")
        parts = ["vllm", vllm.__version__, number_format, made.quantization]
        self._name = " ".join(part for part in parts if part)
        self._tokenizer = Tokenizer(source)
        self._thread = ThreadPoolExecutor(1, "tokens")
        self._numbers = itertools.count()

    async def complete(self, request: Request) -> Completion:
        """Answer a request, with its prompt cut until it fits the model's context."""
        sampling = json.loads(request.sampling)
        most = sampling.get("max_tokens", 1)
        # a prompt may fill the context except for its answer, which claims half of it at most
        room = self._context - min(most, self._context // 2)
        try:
            messages = json.loads(request.messages)
            _, ids, trimmed = await self._beside(self._tokenizer.fit, messages, room)
        except UnusablePrompt as error:
            return Completion(finish_reason="error", error=str(error))
        try:
            output = await self._last_output(request, ids)
        except Exception as error:
            if self._engine.errored:  # no request can be completed any more
                raise EngineDied(f"the engine's process is gone: {error}") from error
            return Completion(finish_reason="error", error=f"{type(error).__name__}: {error}")
        asked = Completion(
            prompt_tokens=len(ids),
            cached_tokens=output.num_cached_tokens or 0,
            trimmed=trimmed,
            context=self._context,
            engine=self._name,
        )
        if request.for_vector:
            return replace(asked, vector=output.outputs.data.tolist())
        answer = output.outputs[0]
        return replace(
            asked,
            text=answer.text
            if "stop" in sampling
            else self._tokenizer.decode(list(answer.token_ids)),
            finish_reason="length" if answer.finish_reason == "length" else "stop",
            output_tokens=len(answer.token_ids),
        )

    async def _beside(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a call in the thread for tokens, while the loop serves the engine."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, call, *arguments)

    async def _last_output(self, request: Request, ids: list[int]) -> Any:
        prompt: Any = {"prompt_token_ids": ids}
        number = str(next(self._numbers))
        stream: AsyncIterator[Any]
        if request.for_vector:
            stream = self._engine.encode(prompt, pooling_parameters(), number)
        else:
            parameters = sampling_parameters(request.sampling, request.schema)
            stream = self._engine.generate(prompt, parameters, number)
        async for output in stream:
            last = output
        return last

    async def close(self) -> None:
        """End the engine and all its processes."""
        await asyncio.to_thread(self._engine.shutdown)
        self._leash.pull()  # ends processes that a dead engine left behind


class Leash:
    """Guard that ends other processes when this one ends, even by SIGKILL.

    vLLM's processes outlive a parent that is killed, and hold memory that the next engine needs. A
    shell waits for the end of a pipe that only this process holds open, and then kills them.
    """

    def __init__(self, pids: list[int]) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -KILL "$@" 2>/dev/null', "leash", *map(str, pids)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def pull(self) -> None:
        """End the processes that still run."""
        self._shell.communicate()


@lru_cache(maxsize=1024)
def sampling_parameters(sampling: str, schema: str) -> Any:
    """vLLM's parameters for answers, which fit the schema if there is one; requests share them."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    drawn = json.loads(sampling)
    return SamplingParams(
        **drawn,
        structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize="stop" in drawn,  # vLLM looks for these words in the text
    )


@lru_cache(maxsize=1)
def pooling_parameters() -> Any:
    """vLLM's parameters for hidden states."""
    from vllm import PoolingParams

    return PoolingParams(task="embed", use_activation=False)


def pooler_config() -> Any:
    """The last token's state as it is; files of an embedding model may say otherwise."""
    from vllm.config import PoolerConfig

    return PoolerConfig(pooling_type="LAST", use_activation=False)
