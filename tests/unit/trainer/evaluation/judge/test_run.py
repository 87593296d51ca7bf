"""A judge behind a real endpoint: its numbers, and what becomes of one that is down, late, or talks nonsense."""

from __future__ import annotations

import dataclasses
import gzip
import json
import socket
import statistics
import time
from collections.abc import Callable
from math import comb
from typing import Any

import pytest

from finetune_api.judge import JudgeSpec
from finetune_api.reasons import Reason
from finetune_trainer.evaluation.judge.prompts import AGAIN, AnsweredRow
from finetune_trainer.evaluation.judge.run import Judge, Judged
from finetune_trainer.evaluation.judge.status import is_judged
from judge_server import Data, Fault, JudgeServer, always_first, by_reference, running_judge
from trainer_inputs import refusal

KEY = "sk-very-secret-0123456789"
NONSENSE = Fault(content="I would say it is rather good.")


def rows(count: int, tuned_right: int, base_right: int, answers_alike: int = 0) -> list[AnsweredRow]:
    """Rows of which the first so many are right; the last ones are answered alike."""
    made = []
    for number in range(count):
        right, wrong = f"place {number}", f"another place than {number}"
        base = right if number < base_right else wrong
        tuned = base if number >= count - answers_alike else right if number < tuned_right else f"not {wrong}"
        made.append(AnsweredRow(f"{number:064x}", f"Where is {number}?", right, tuned=tuned, base=base))
    return made


def judge_of(server: JudgeServer, key: str | None = None, **fields: Any) -> Judge:
    settings = {"endpoint": server.endpoint, "model": "judge", "timeout_seconds": 5, "max_retries": 1, **fields}
    return Judge(JudgeSpec.model_validate(settings), key, 700)


def ask(server: JudgeServer, given: list[AnsweredRow], key: str | None = None, **fields: Any) -> Judged:
    judge = judge_of(server, key, **fields)
    judge.probe()
    return judge.judge(given)


def test_points_and_preferences_are_those_of_the_judge() -> None:
    given = rows(20, tuned_right=15, base_right=4, answers_alike=2)
    with running_judge() as server:
        found = ask(server, given, pairwise=True)
    status = found.status
    assert (status.outcome, status.message, found.advice) == ("Complete", None, [])
    assert status.judged == 20 * 2 + 14 * 2  # four rows are right on both sides, two wrong alike
    assert status.requests == status.judged + 1  # the look before
    assert status.model == "judge-2026-11-01"
    scores = {score.name: score for score in status.scores}
    expected = {side: [5 if getattr(row, side) == row.expected else 2 for row in given] for side in ("base", "tuned")}
    for side, values in expected.items():
        value = getattr(scores["Accuracy"], side)
        assert float(value.value) == pytest.approx(statistics.mean(values))
        # Wilson's ends are where the score test of the mean on a scale of 0 to 1 says so.
        mean = (statistics.mean(values) - 1) / 4
        for end in (value.interval95.low, value.interval95.high):
            share = (float(end) - 1) / 4
            assert (mean - share) ** 2 == pytest.approx(1.959964**2 * share * (1 - share) / 20, rel=2e-3)
    assert scores["Fluency"].difference == "0"
    # 11 rows where tuned alone is right, none where base is: 2 * 1/2^11.
    assert float(scores["Accuracy"].p_value or "") == pytest.approx(2 * comb(11, 0) / 2**11, rel=1e-2)
    assert status.preference
    assert (status.preference.tuned, status.preference.base, status.preference.tie) == (11, 0, 9)
    assert status.preference.p_value == scores["Accuracy"].p_value


def test_a_judge_that_prefers_the_first_answer_prefers_nobody() -> None:
    with running_judge(always_first) as server:
        found = ask(server, rows(6, tuned_right=6, base_right=0), pairwise=True)
    assert found.status.preference
    assert found.status.preference.to_api() == {"tuned": 0, "base": 0, "tie": 6, "swayed": 6, "pValue": "1"}
    assert [one.reason for one in found.advice] == ["JudgeSwayed"]


def test_the_same_judgement_is_asked_for_in_the_same_bytes_at_temperature_0() -> None:
    bodies = []
    for _ in range(2):
        with running_judge() as server:
            ask(server, rows(2, 1, 1), pairwise=True, repeats=2, concurrency=1)
        bodies.append(server.bodies)
    assert bodies[0] == bodies[1]
    assert {body["temperature"] for body in bodies[0]} == {0}
    assert {body["seed"] for body in bodies[0]} == {700, 701}  # a seed for each repeat
    assert {body["model"] for body in bodies[0]} == {"judge"}


def moody() -> Callable[[Data], dict[str, Any]]:
    """Gives one point more each second time that it sees an answer which is wrong."""
    seen: dict[str, int] = {}

    def judge(data: Data) -> dict[str, Any]:
        reply, answer = by_reference(data), data["answer"]
        seen[answer] = seen.get(answer, -1) + 1
        return {**reply, "Accuracy": reply["Accuracy"] + (reply["Accuracy"] == 2) * (seen[answer] % 2)}

    return judge


def test_the_judges_agreement_with_itself_is_told() -> None:
    given = rows(4, tuned_right=4, base_right=0)
    with running_judge(moody()) as server:
        found = ask(server, given, repeats=2)
    agreement = {one.name: one for one in found.status.agreement}
    assert agreement["Accuracy"].equal == "0.5"
    # Four units (5, 5) and four (2, 3): observed 4 * 2 / 16; expected over all pairs of the sixteen values.
    values = [5] * 8 + [2] * 4 + [3] * 4
    pairs = [(one - other) ** 2 for i, one in enumerate(values) for j, other in enumerate(values) if i != j]
    assert float(agreement["Accuracy"].alpha or "") == pytest.approx(1 - (8 / 16) / statistics.mean(pairs), abs=1e-3)
    assert agreement["Fluency"].to_api() == {"name": "Fluency", "equal": "1"}  # all judgements the same: no alpha


def test_nonsense_is_asked_for_once_more_then_it_counts_as_unusable() -> None:
    with running_judge(fault=NONSENSE) as server:
        found = ask(server, rows(3, 3, 0), concurrency=1)
    assert found.status.outcome == "Failed"
    assert (found.status.judged, found.status.unusable, found.status.unanswered) == (0, 6, 0)
    assert server.bodies[2]["messages"][-1]["content"].endswith(AGAIN)
    assert len(server.bodies) == 1 + 2 * 6
    assert [one.reason for one in found.advice] == ["JudgeUnusable"]
    with running_judge() as server:
        judge = judge_of(server, concurrency=1)
        judge.probe()
        server.faults.extend([NONSENSE, NONSENSE, NONSENSE])
        found = judge.judge(rows(3, 3, 0))
    assert (found.status.judged, found.status.unusable, found.status.outcome) == (5, 1, "Unusable")
    assert found.document["judgements"][0]["state"] == "Unusable"
    assert found.document["judgements"][1]["state"] == "Judged"


@pytest.mark.parametrize("named", [True, False])
def test_parameters_that_a_server_does_not_know_are_left_out(named: bool) -> None:
    with running_judge(refuses=("response_format", "seed"), names_refused=named) as server:
        found = ask(server, rows(2, 2, 0), pairwise=True)
    assert found.status.outcome == "Complete"
    assert found.document["parametersRefused"] == ["response_format", "seed"]
    assert found.status.requests == 3 + 8


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {"Retry-After-Ms": "1"}),
        Fault(503, {"Retry-After-Ms": "1"}),
        Fault(cut=10, content="{}"),
    ],
)
def test_passing_faults_are_tried_again(fault: Fault) -> None:
    with running_judge() as server:
        judge = judge_of(server, concurrency=1)
        judge.probe()
        server.faults.append(fault)
        found = judge.judge(rows(2, 2, 0))
    assert found.status.outcome == "Complete"
    assert found.status.requests == 1 + 1 + 4


def test_a_server_that_says_when_to_come_again_is_obeyed() -> None:
    with running_judge() as server:
        judge = judge_of(server, concurrency=1)
        judge.probe()
        server.faults.append(Fault(429, {"Retry-After": "1"}))
        begin = time.monotonic()
        assert judge.judge(rows(1, 1, 0)).status.outcome == "Complete"
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(500, {"Retry-After-Ms": "1"}, b'{"error": {"message": "boom"}}'), "HTTP 500: "),
        (Fault(404, body=b'{"error": {"message": "no such model"}}'), "no such model"),
        (Fault(302, {"Location": "/elsewhere"}), "HTTP 302"),
        (Fault(body=b"<html>" + b"x" * 100), "no chat completion"),
        (Fault(body=b"[]"), "no chat completion"),
        (Fault(body=b'{"choices": []}'), "no chat completion"),
        (Fault(body=b'{"choices": [{"message": {"content": [1]}}]}'), "no chat completion"),
        (Fault(body=b"x" * 3_000_000), "more than 1048576 bytes"),
        (Fault(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b" " * 100_000_000)), "no chat completion"),
        (Fault(hang=True), "no reply within 1 seconds"),
        (Fault(drip=True), "no reply within 1 seconds"),
        (Fault(418, body=b'{"error": {"message": "\\u001b[31m\\u0007tea\\r\\npot"}}'), "tea pot"),
    ],
)
def test_whatever_the_server_does_ends_in_words(fault: Fault, words: str) -> None:
    with running_judge(fault=fault) as server:
        found = ask(server, rows(1, 1, 0), timeout_seconds=1, max_retries=0)
    status = found.status
    assert (status.outcome, status.judged) == ("Failed", 0)
    assert status.unanswered + status.unjudged == 2
    assert words in (status.message or "")
    assert (status.message or "").isprintable()
    assert found.advice[0].reason == "JudgeIncomplete"
    assert not is_judged(result_with(found))


def result_with(found: Judged) -> Any:
    """What of a result says whether it was judged."""
    from finetune_api.results import EvaluationStatus

    evaluation = EvaluationStatus(summary="", examples=1, judge=found.status)
    return dataclasses.make_dataclass("Result", ["evaluation"])(evaluation)


def test_a_judge_that_nobody_listens_for_costs_its_judgements_only() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        server = JudgeServer(by_reference, endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        found = ask(server, rows(3, 3, 0), max_retries=0)
    assert (found.status.outcome, found.status.unjudged) == ("Failed", 6)
    assert "no connection" in (found.status.message or "")


def test_a_judge_that_comes_back_while_rows_are_scored_judges_all() -> None:
    with running_judge() as server:
        judge = judge_of(server, max_retries=0)
        server.faults.append(Fault(503))
        judge.probe()
        found = judge.judge(rows(2, 2, 0))
    assert found.status.outcome == "Complete"


def test_a_judge_that_goes_is_given_up_and_what_it_said_stays() -> None:
    with running_judge() as server:
        judge = judge_of(server, max_retries=0, concurrency=1)
        judge.probe()
        given = rows(40, 40, 0)

        def then_gone(data: Data) -> dict[str, Any]:
            if len(server.bodies) > 10:
                server.fault = Fault(500)
            return by_reference(data)

        server.rule = then_gone
        found = judge.judge(given)
    assert (found.status.judged, found.status.unanswered, found.status.unjudged) == (10, 8, 62)
    assert found.status.outcome == "Incomplete"
    assert found.status.scores[0].tuned
    assert "given up" in (found.status.message or "")


def test_requests_are_never_more_than_the_budget_and_what_is_left_is_told() -> None:
    with running_judge() as server:
        found = ask(server, rows(10, 10, 0), max_requests=7)
    assert len(server.bodies) == found.status.requests == 7
    assert (found.status.judged, found.status.unjudged, found.status.outcome) == (6, 14, "Incomplete")
    assert "7 requests of maxRequests are spent" in (found.status.message or "")
    with running_judge(fault=Fault(503, {"Retry-After-Ms": "1"})) as server:
        found = ask(server, rows(10, 10, 0), max_requests=7, max_retries=3)
    assert len(server.bodies) <= 7
    with running_judge() as server:
        assert ask(server, rows(2, 2, 0), max_requests=1).status.unjudged == 4


def test_seconds_are_no_more_than_the_budget_though_the_judge_hangs() -> None:
    with running_judge() as server:
        judge = judge_of(server, max_seconds=1, timeout_seconds=60)
        judge.probe()
        server.fault = Fault(hang=True)
        begin = time.monotonic()
        found = judge.judge(rows(5, 5, 0))
    assert time.monotonic() - begin < 5
    assert (found.status.judged, found.status.unjudged) == (0, 10)
    assert "the 1 seconds of maxSeconds are over" in (found.status.message or "")


def test_no_more_rows_are_judged_than_asked_for() -> None:
    with running_judge() as server:
        found = ask(server, rows(10, 10, 0), max_examples=3)
    assert found.status.judged == 6


def test_without_answers_there_is_nothing_to_judge() -> None:
    with running_judge() as server:
        found = ask(server, [])
    assert (found.status.outcome, found.status.requests) == ("Failed", 1)
    assert "nothing to judge" in (found.status.message or "")


def test_a_refused_key_is_told_before_anything_is_scored() -> None:
    with running_judge(key=KEY) as server:
        told = refusal(judge_of(server, "sk-old").probe, Reason.CREDENTIALS_REJECTED)
        assert ask(server, rows(1, 1, 0), KEY).status.outcome == "Complete"
    assert server.endpoint in told
    assert "sk-old" not in told


def test_a_key_that_is_refused_later_costs_what_is_left() -> None:
    with running_judge(key=KEY) as server:
        judge = judge_of(server, KEY, concurrency=1)
        judge.probe()
        server.key = "another"
        found = judge.judge(rows(5, 5, 0))
    assert (found.status.judged, found.status.unanswered, found.status.unjudged) == (0, 1, 9)
    assert found.status.requests == 2  # no use in asking on


def test_without_a_secret_no_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # as an administrator's profile may have it
    with running_judge() as server:
        ask(server, rows(1, 1, 0))
    assert set(server.keys) == {None}


def test_the_key_stands_nowhere_though_the_judge_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    def telling(data: Data) -> dict[str, Any]:
        return {**by_reference(data), "reason": f"your key is {KEY}"}

    escaped = "".join(f"\\u{ord(char):04x}" for char in KEY)
    telling_escaped = Fault(content=f'{{"reason": "{escaped}", "Relevance": 1, "Accuracy": 1, "Fluency": 1}}')
    wrong = [Fault(content=f'{{"{KEY}": 1}}'), Fault(content=f'{{"reason": "{KEY}", "{KEY}": 2}}')]
    refusing = Fault(418, body=json.dumps({"error": {"message": f"no tea for {KEY}"}}).encode())
    with running_judge(telling, key=KEY) as server:
        judge = judge_of(server, KEY, concurrency=1)
        judge.probe()
        server.faults.extend([telling_escaped, *wrong, refusing])
        found = judge.judge(rows(3, 3, 0))
    assert server.keys == [f"Bearer {KEY}"] * len(server.keys)
    assert (found.status.judged, found.status.unusable, found.status.unanswered) == (4, 1, 1)
    shown = json.dumps([found.status.to_api(), found.document, [one.to_api() for one in found.advice]])
    assert KEY not in shown + capsys.readouterr().out + repr(judge._session)
    assert "your key is ***" in shown


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with running_judge() as other, running_judge(key=KEY) as server:
        server.fault = Fault(307, {"Location": f"{other.endpoint}/chat/completions"})
        assert ask(server, rows(1, 1, 0), KEY, max_retries=0).status.outcome == "Failed"
    assert other.bodies == []


def test_an_endpoint_that_is_no_url_is_a_wrong_spec() -> None:
    spec = JudgeSpec(endpoint="https://[::", model="m")
    assert "spec.evaluation.judge.endpoint" in refusal(Judge(spec, None, 0).probe, Reason.INVALID_SPEC)


def test_reasons_are_cut_and_without_terminal_escapes() -> None:
    def hostile(data: Data) -> dict[str, Any]:
        return {**by_reference(data), "reason": "\x1b[2J\x07" + "x" * 50_000}

    with running_judge(hostile) as server:
        found = ask(server, rows(1, 1, 0))
    reason = found.document["judgements"][0]["reason"]
    assert len(reason) == 1000
    assert reason.isprintable()
