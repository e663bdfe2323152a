"""The order of prompts: what begins alike together, the longest first between groups."""

import random

from winnow.llm.generation.prompt_order import MOST_NESTED, WORTH_SHARING, grouped
from winnow.llm.prompting.request import Request

ALL = "[system] the same words for all " * 20
LONG = "x" * WORTH_SHARING


def request(text, task="t"):
    return Request(
        key=f"{task}:{text}",
        task=task,
        inputs="{}",
        messages=text,
        schema="{}",
        sampling="{}",
        model="m",
        template="t/1",
    )


def ordered(*texts):
    return [[found.messages for found in group] for group in grouped([*map(request, texts)])]


def test_prompts_that_share_more_than_all_do_are_one_group():
    texts = [f"{ALL}{name}{LONG}{n}" for n in range(3) for name in "abc"]
    groups = ordered(*texts)
    assert [len(group) for group in groups] == [3, 3, 3]
    assert all(len({text.replace(ALL, "")[0] for text in group}) == 1 for group in groups)


def test_what_all_share_makes_no_group():
    texts = [f"{ALL}{LONG}{n}" for n in range(4)]
    assert sorted(ordered(*texts)) == [[text] for text in texts]


def test_the_longest_come_first_between_groups_and_within():
    texts = ["b", "aaa", f"c{LONG}1", f"c{LONG}22", f"d{LONG}{LONG}", "ee"]
    assert ordered(*texts) == [[texts[4]], [texts[3], texts[2]], ["aaa"], ["ee"], ["b"]]


def test_groups_within_groups_stay_together():
    texts = [f"{top}{LONG}{inner}{LONG}{n}" for n in range(3) for inner in "pq" for top in "ab"]
    for group in ordered(*texts, "z"):
        inner = [text[1 + len(LONG)] for text in group if text != "z"]
        assert "".join(inner) in ("pppqqq", "qqqppp", "")


def test_tasks_are_apart_and_every_request_is_there_once():
    draw = random.Random(0)
    requests = [
        request(draw.choice("ab") * draw.choice([3, 400]) + str(n), draw.choice("tu"))
        for n in range(200)
    ]
    groups = list(grouped(requests))
    found = [one for group in groups for one in group]
    assert sorted(one.key for one in found) == sorted(one.key for one in requests)
    tasks = [one.task for one in found]
    assert tasks == sorted(tasks)
    assert list(grouped(requests[::-1])) == groups
    assert list(grouped([])) == []


def test_endless_nesting_is_cut_off():
    texts = [LONG * n + "y" for n in range(3 * MOST_NESTED)]
    assert sorted(text for group in ordered(*texts) for text in group) == sorted(texts)
