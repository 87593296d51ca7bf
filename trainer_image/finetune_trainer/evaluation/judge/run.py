"""Asks the judge: a look before anything is scored, then all judgements within the budget. The only part with I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from finetune_api.config import RunConfig
from finetune_api.credentials import JUDGE_KEY
from finetune_api.judge import JudgeSpec
from finetune_api.judge_status import JudgeStatus
from finetune_api.reasons import Reason
from finetune_trainer.evaluation.judge.client import OPTIONAL, BudgetSpent, Client, NoReply, Session, connect
from finetune_trainer.evaluation.judge.prompts import AnsweredRow, asked_again
from finetune_trainer.evaluation.judge.replies import Unusable, read_reply, response_format
from finetune_trainer.evaluation.judge.status import DEFINITIONS, Judged, judge_advice, judge_status
from finetune_trainer.evaluation.judge.tasks import TUNED, Judgement, State, Task, make_tasks
from finetune_trainer.evaluation.judge.verdicts import find_verdicts
from finetune_trainer.sources.credentials import credentials_of
from finetune_trainer.stage.console import say
from finetune_trainer.stage.failure import StageError

# So many failures in a row, each after its retries, and the judge is taken for gone.
_GIVE_UP_AFTER = 8
_PROBE = AnsweredRow("", "What is two plus two?", "Four.", tuned="It is four.")
_MAX_REASON = 1000  # characters of a judge's reason that the report keeps
FIELD = "spec.evaluation.judge"


class Judge:
    """A judge, before and after it was asked."""

    def __init__(self, spec: JudgeSpec, key: str | None, seed: int) -> None:
        self._spec, self._seed = spec, seed
        self._session = Session(spec, key)

    def probe(self) -> None:
        """Asks for one judgement, to learn what the endpoint takes.

        Raises StageError: InvalidSpec for an endpoint that is no URL, CredentialsRejected. Whatever else is wrong with
        the judge costs its judgements only, since it may be back by the time that there is something to judge.
        """
        try:
            asyncio.run(self._probe())
        except ValueError as error:
            raise StageError(Reason.INVALID_SPEC, f"{FIELD}.endpoint: {error}") from error
        except BudgetSpent:
            say(f"judge: all of {FIELD}.maxRequests went into asking what it takes")
        except NoReply as error:
            if error.credentials:
                raise StageError(
                    Reason.CREDENTIALS_REJECTED,
                    f"the judge at {self._spec.endpoint}: {error}",
                    f"check {JUDGE_KEY} in the Secret that {FIELD}.secretRef names, and apply under a new name: the "
                    "adapter is kept and reused",
                ) from None
            say(f"judge: {self._spec.endpoint} does not serve now ({error}); it is asked once more after scoring")

    def judge(self, rows: Sequence[AnsweredRow]) -> Judged:
        """Has the answers of the first rows judged. Never raises for what the judge does."""
        spec = self._spec
        rows = rows[: spec.max_examples]
        tasks = make_tasks(rows, spec)
        say(f"judge: asking {spec.model} at {spec.endpoint} for {len(tasks)} judgements of {len(rows)} rows")
        work = _Work(self._session, rows, self._seed)
        asyncio.run(work.run(tasks, self._probe))
        found = [work.done.get(task) or Judgement(task, State.UNJUDGED) for task in tasks]
        verdicts = find_verdicts(rows, found, spec.pairwise)
        status = judge_status(spec, self._session.model, self._session.requests, found, verdicts, work.stopped)
        return Judged(status, _document(self._session, status, rows, found), judge_advice(status, spec.repeats))

    async def _probe(self) -> None:
        """Finds what the server does not take: what it names, or else one parameter more each time."""
        session = self._session
        async with connect(session) as client:
            while True:
                try:
                    await _ask(
                        client, session, Task(0, 0, TUNED), [_PROBE], self._seed, min(1, session.spec.max_retries)
                    )
                    return
                except Unusable:
                    return
                except NoReply as error:
                    left = [name for name in OPTIONAL if name not in session.without]
                    if error.refused is None or not left:
                        session.without = ()
                        raise
                    session.without += (error.refused if error.refused in left else left[0],)


class _Work:
    """Judgements on their way, several at a time."""

    def __init__(self, session: Session, rows: Sequence[AnsweredRow], seed: int) -> None:
        self._session, self._rows, self._seed = session, rows, seed
        self.done: dict[Task, Judgement] = {}
        self.stopped = ""  # why it ended before all was asked
        self._failures = 0  # in a row

    async def run(self, tasks: Sequence[Task], probe: Any) -> None:
        """Asks for all judgements, or for as many as budget and judge allow."""
        spec = self._session.spec
        if not tasks:
            return
        left = iter(tasks)
        try:
            async with asyncio.timeout(spec.max_seconds):
                if not self._session.served:  # the first look found nobody
                    await probe()
                async with connect(self._session) as client:
                    await asyncio.gather(*(self._work(client, left, len(tasks)) for _ in range(spec.concurrency)))
        except TimeoutError:
            self.stopped = f"the {spec.max_seconds} seconds of maxSeconds are over"
        except BudgetSpent:
            self.stopped = f"the {spec.max_requests} requests of maxRequests are spent"
        except NoReply as error:
            self.stopped = str(error)

    async def _work(self, client: Client, left: Any, total: int) -> None:
        for task in left:
            if self.stopped:
                return
            try:
                self.done[task] = await self._judgement(client, task)
            except BudgetSpent:
                self.stopped = f"the {self._session.spec.max_requests} requests of maxRequests are spent"
                return
            if len(self.done) * 10 // total > (len(self.done) - 1) * 10 // total:
                say(f"judge: {len(self.done)} of {total} judgements")

    async def _judgement(self, client: Client, task: Task) -> Judgement:
        try:
            reply = await _ask(client, self._session, task, self._rows, self._seed)
        except Unusable as error:
            self._failures = 0
            return Judgement(task, State.UNUSABLE, problem=str(error))
        except NoReply as error:
            self._failures += 1
            if error.credentials or self._failures >= _GIVE_UP_AFTER:
                self.stopped = f"it was given up: {error}"
            return Judgement(task, State.UNANSWERED, problem=str(error))
        self._failures = 0
        return Judgement(task, State.JUDGED, reply)


async def _ask(
    client: Client,
    session: Session,
    task: Task,
    rows: Sequence[AnsweredRow],
    seed: int,
    retries: int | None = None,
) -> Any:
    """One judgement, asked for a second time when the reply is none. Raises Unusable, NoReply, BudgetSpent."""
    messages, form = task.messages(rows, session.spec), task.form(session.spec)
    wanted, chosen = response_format(form), seed + task.repeat
    try:
        return read_reply(await client.ask(messages, wanted, chosen, retries), form)
    except Unusable:
        if retries is not None:  # a probe
            raise
    try:
        return read_reply(await client.ask(asked_again(messages), wanted, chosen, retries), form)
    except Unusable as error:
        raise Unusable(session.clean(str(error), 120)) from None


def open_judge(config: RunConfig) -> Judge | None:
    """The judge of a run's evaluation; None without one. Raises StageError (CredentialsRejected) for an unfit Secret.

    Without secretRef no key is sent: one that stands in the pod's environment is not for an endpoint that a user names.
    """
    spec = config.spec.evaluation.judge if config.spec.evaluation else None
    if spec is None:
        return None
    key = credentials_of(config, spec.secret_ref, (JUDGE_KEY,)).values.get(JUDGE_KEY) if spec.secret_ref else None
    if key and not (key.isascii() and key.isprintable()):
        raise StageError(Reason.CREDENTIALS_REJECTED, f"{JUDGE_KEY} of {FIELD} holds what is no key", "write it anew")
    return Judge(spec, key, config.spec.training.seed)


def _document(
    session: Session, status: JudgeStatus, rows: Sequence[AnsweredRow], found: Sequence[Judgement]
) -> dict[str, Any]:
    """The judge's part of report.json: how it was asked, and every judgement."""
    return {
        **status.to_api(),
        "definitions": DEFINITIONS,
        "parametersRefused": list(session.without),
        "promptTokens": session.prompt_tokens,
        "replyTokens": session.reply_tokens,
        "judgements": [_judgement_document(session, rows, one) for one in found],
    }


def _judgement_document(session: Session, rows: Sequence[AnsweredRow], one: Judgement) -> dict[str, Any]:
    task = one.task
    what = {"of": task.side} if task.side else {"first": "tuned" if task.swapped else "base"}
    said = one.reply.model_dump() if one.reply else {}
    if "reason" in said:
        said["reason"] = session.clean(said["reason"], _MAX_REASON)
    problem = {"problem": one.problem} if one.problem else {}
    return {"sha256": rows[task.row].sha256, **what, "repeat": task.repeat, "state": one.state.value, **problem, **said}
