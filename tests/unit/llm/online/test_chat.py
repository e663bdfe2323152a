"""The chat client's breaker, memory and ledger; what the goal graph and the tree don't show."""

import asyncio
import json
import threading
import time
from dataclasses import replace

import pytest

from winnow.llm.online.budget import Call, ChatStopped, Ledger
from winnow.llm.online.chat import Chat, chat_request, online, tokens_in
from winnow.llm.prompting.json_schema import choice, most_characters, object_of

SCHEMA = object_of(answer=choice(["yes", "no"]))


def question(words="May I?"):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": words}]
    return chat_request(task="t", template="t/1", messages=messages, schema=SCHEMA)


def ledger(seconds=20.0, calls=20, tokens=100_000):
    return Ledger(calls, tokens, time.monotonic() + seconds)


def read(text):
    return (text, "") if text in ("yes", "no") else (None, "say yes or no")


def with_chat(llm, use, **settings):
    """What `use` makes of a chat with the scripted model."""

    async def run():
        async with llm:
            chat = Chat(replace(online(llm.url, "m"), **settings))
            try:
                return await use(chat)
            finally:
                await chat.close()

    return asyncio.run(run())


async def reason(chat, seconds=20.0, words="May I?"):
    """Why there is no answer."""
    with pytest.raises(ChatStopped) as stopped:
        await chat.ask(ledger(seconds), "step", question(words), read)
    return stopped.value.reason


def test_a_probe_that_is_cancelled_does_not_keep_the_breaker_open(scripted_llm):
    llm = scripted_llm((500, "no"), None, "yes")

    async def use(chat):
        assert await reason(chat) == "unavailable"
        await asyncio.sleep(0.06)
        probe = asyncio.create_task(chat.ask(ledger(), "step", question(), read))
        while len(llm.bodies) < 2:
            await asyncio.sleep(0.01)
        assert await reason(chat) == "unavailable"  # one probe at a time
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        return await chat.ask(ledger(), "step", question(), read)

    assert with_chat(llm, use, tries=1, breaker_failures=1, breaker_pause_s=0.05) == "yes"


def test_callers_in_a_hurry_do_not_open_the_breaker(scripted_llm):
    hurry = ["yes"]
    llm = scripted_llm(lambda body: None if hurry else "yes")

    async def use(chat):
        for _ in range(4):
            assert await reason(chat, seconds=0.05) == "deadline"
        hurry.clear()
        return await chat.ask(ledger(), "step", question(), read)

    assert with_chat(llm, use, breaker_failures=2) == "yes"


def test_callers_who_waited_long_enough_do(scripted_llm):
    async def use(chat):
        assert await reason(chat, seconds=1.2) == "deadline"
        assert chat.spent.calls == 1  # it is paid for
        return await reason(chat)

    assert with_chat(scripted_llm(None), use, breaker_failures=1) == "unavailable"


def test_waiting_for_a_free_slot_counts_against_the_deadline(scripted_llm):
    llm = scripted_llm(None)

    async def use(chat):
        first = asyncio.create_task(reason(chat, seconds=0.6))
        await asyncio.sleep(0.1)
        assert await reason(chat, seconds=0.2) == "deadline"
        assert len(llm.bodies) == 1
        return await first

    assert with_chat(llm, use, max_in_flight=1) == "deadline"


def test_another_prompt_is_not_the_remembered_one(scripted_llm):
    llm = scripted_llm("yes", "no")

    async def use(chat):
        spent = ledger()
        answers = [await chat.ask(spent, "s", question(w), read) for w in ("a", "b", "a")]
        return answers, spent, chat.spent

    answers, spent, total = with_chat(llm, use)
    assert answers == ["yes", "no", "yes"]
    assert (total.calls, total.remembered) == (2, 1)
    assert total.prompt_tokens + total.cached_tokens + total.output_tokens == spent.tokens > 0
    assert [call.outcome for call in spent.entries] == ["answered", "answered", "remembered"]
    assert spent.calls == 2


def test_a_refusal_is_final(scripted_llm):
    for response in ((422, "bad prompt"), (413, "too large")):
        llm = scripted_llm(response)
        assert with_chat(llm, reason) == "refused"
        assert len(llm.bodies) == 1


def test_the_request_names_schema_model_and_room(scripted_llm):
    llm = scripted_llm("yes")

    async def use(chat):
        return await chat.ask(ledger(), "s", question(), read)

    with_chat(llm, use)
    (body,) = llm.bodies
    assert (body["model"], body["temperature"]) == ("m", 0)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert len('{"answer": "yes"}') < body["max_tokens"] < 100


def test_the_ledger_counts_calls_under_way():
    spent = ledger(calls=2, tokens=100)
    with spent.call(60):
        assert spent.calls == 1
        with pytest.raises(ChatStopped) as stopped, spent.call(60):
            pass
        assert stopped.value.reason == "tokens"
        spent.entries.append(Call("s", "answered", prompt_tokens=10, output_tokens=5))
    assert (spent.calls, spent.tokens) == (1, 15)
    with spent.call(60):
        spent.entries.append(Call("t", "failed"))
    with pytest.raises(ChatStopped) as stopped, spent.call(1):
        pass
    assert stopped.value.reason == "calls"
    assert spent.by_step() == {
        "s": {"calls": 1, "prompt_tokens": 10, "output_tokens": 5},
        "t": {"calls": 1, "prompt_tokens": 0, "output_tokens": 0},
    }


def test_tokens_are_counted_rather_too_high():
    messages = json.loads(question("word " * 300).messages)
    assert tokens_in(messages) >= 300


def test_an_answer_is_read_in_a_thread_and_the_loop_serves_others(scripted_llm):
    llm, served = scripted_llm("yes"), threading.Event()

    def waits_for_the_loop(text):
        return ("yes", "") if served.wait(20) else (None, "the loop stood still")

    async def use(chat):
        asking = asyncio.create_task(chat.ask(ledger(), "s", question(), waits_for_the_loop))
        while not llm.bodies:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        served.set()
        return await asking

    assert with_chat(llm, use) == "yes"


@pytest.mark.parametrize("remembered", [False, True])
def test_the_deadline_holds_while_an_answer_is_read(scripted_llm, remembered):
    release = threading.Event()

    def slow(text):
        release.wait(20)
        return "yes", ""

    async def use(chat):
        if remembered:
            await chat.ask(ledger(), "s", question(), read)
        try:
            with pytest.raises(ChatStopped) as stopped:
                await chat.ask(ledger(0.3), "s", question(), slow)
        finally:
            release.set()
        return stopped.value.reason

    assert with_chat(scripted_llm("yes"), use) == "deadline"


def test_a_text_of_many_times_the_longest_answer_is_not_given_to_the_reader(scripted_llm):
    most, given = most_characters(SCHEMA), []

    def reader(text):
        given.append(text)
        return read(text)

    async def use(chat):
        return await chat.ask(ledger(), "s", question(), reader)

    llm = scripted_llm("x" * (most + 1), "thinking " * most + "</think>yes")
    assert with_chat(llm, use) == "yes"
    assert given == ["yes"]
    told = llm.bodies[1]["messages"][-1]["content"]
    assert f"the answer has {most + 1} characters, more than {most}" in told
