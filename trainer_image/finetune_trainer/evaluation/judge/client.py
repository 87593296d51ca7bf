"""One endpoint that speaks OpenAI's chat completions: bounded in requests, time and bytes. Retries are its client's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError

from finetune_api.base import one_line
from finetune_api.judge import JudgeSpec

MAX_REPLY_BYTES = 1024 * 1024
# What some servers don't take, in the order in which it is left out. All is wanted: the form, and the same reply twice.
OPTIONAL = ("response_format", "seed", "temperature", "max_tokens")
_MAX_PROBLEM = 200
_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms", "x-should-retry")


class NoReply(Exception):
    """The judge did not reply, for all retries. The text says why, and holds nothing of the key."""

    def __init__(self, problem: str, credentials: bool = False, refused: str | None = None) -> None:
        super().__init__(problem)
        self.credentials = credentials  # it wants other credentials
        self.refused = refused  # the server does not take the request; the parameter, if it names one


class BudgetSpent(BaseException):
    """No further request may be sent. No Exception: the client would take that for a network that failed."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """What is read of a chat completion."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    model: str = ""
    usage: _Usage | None = None


@dataclass
class Session:
    """What is known of a judge while it is asked, over all connections to it."""

    spec: JudgeSpec
    key: str | None = field(repr=False)
    requests: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    model: str = ""  # by the server's own word
    served: bool = False  # it has replied
    without: tuple[str, ...] = ()  # of OPTIONAL, what the server does not take

    def hide(self, text: str) -> str:
        """What a server says without the key, which it may repeat."""
        return text.replace(self.key, "***") if self.key else text

    def clean(self, text: str, length: int) -> str:
        """The same on one line, cut, and without control characters."""
        return one_line("".join(char if char.isprintable() else " " for char in self.hide(text)), length)


class Client:
    """An open connection to the judge."""

    def __init__(self, session: Session, api: openai.AsyncOpenAI) -> None:
        self._session, self._api = session, api

    async def ask(
        self, messages: list[dict[str, str]], response_format: dict[str, Any], seed: int, retries: int | None = None
    ) -> str:
        """The text of the judge's reply. Raises NoReply, and BudgetSpent before a request too many."""
        session = self._session
        options: dict[str, Any] = {
            "response_format": response_format,
            "seed": seed,
            "temperature": 0,
            "max_tokens": session.spec.max_reply_tokens,
        }
        wanted: dict[str, Any] = {name: value for name, value in options.items() if name not in session.without}
        api = self._api if retries is None else self._api.with_options(max_retries=retries)
        try:
            raw = await api.chat.completions.with_raw_response.create(
                model=session.spec.model, messages=cast(Any, messages), **wanted
            )
            found = _Completion.model_validate_json(raw.http_response.content)
        except openai.OpenAIError as error:
            raise self._no_reply(error) from None  # its causes hold the request, and with it the key
        except ValidationError:
            raise NoReply("its reply is no chat completion") from None
        except Exception as error:  # whatever else a URL, a proxy or a header can lead to: it costs one judgement
            raise NoReply(session.clean(f"{type(error).__name__}: {error}", _MAX_PROBLEM)) from None
        if found.usage:
            session.prompt_tokens += max(0, found.usage.prompt_tokens)
            session.reply_tokens += max(0, found.usage.completion_tokens)
        session.model = session.clean(found.model, 128) or session.model
        session.served = True
        return session.hide(found.choices[0].message.content or "")

    def _no_reply(self, error: openai.OpenAIError) -> NoReply:
        spec = self._session.spec
        if isinstance(error, openai.APITimeoutError):
            return NoReply(f"no reply within {spec.timeout_seconds} seconds")
        if isinstance(error, openai.APIStatusError):
            status = error.status_code
            if status in (401, 403):  # the server's words may hold parts of the key
                return NoReply(f"HTTP {status}: it does not take the key", credentials=True)
            said = self._session.clean(str(error.message), _MAX_PROBLEM)
            param = error.param if isinstance(error.param, str) else ""
            return NoReply(f"HTTP {status}: {said}", refused=param if status in (400, 422) else None)
        cause = error.__cause__ or error
        said = self._session.clean(str(cause) or type(cause).__name__, _MAX_PROBLEM)
        return NoReply(f"no connection: {said}" if isinstance(error, openai.APIConnectionError) else said)


@asynccontextmanager
async def connect(session: Session) -> AsyncIterator[Client]:
    """Opens a client. Raises ValueError for an endpoint that is no URL."""
    spec = session.spec
    try:
        endpoint = httpx2.URL(spec.endpoint)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{spec.endpoint!r} is no URL: {error}") from error
    if not endpoint.host:
        raise ValueError(f"{spec.endpoint!r} is no URL: it names no host")
    async with _BoundedClient(session) as http:
        yield Client(
            session,
            openai.AsyncOpenAI(
                base_url=spec.endpoint,
                api_key=session.key or "none",
                max_retries=spec.max_retries,
                timeout=spec.timeout_seconds,
                default_headers={"Accept-Encoding": "identity"},
                http_client=http,
            ),
        )


class _BoundedClient(httpx2.AsyncClient):
    """Counts requests, ends one that takes too long however slowly its bytes come, and reads no more than a megabyte.

    It follows no redirect: the key is for the endpoint that the spec names.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(follow_redirects=False, timeout=session.spec.timeout_seconds)
        self._session = session

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        spec = self._session.spec
        if self._session.requests >= spec.max_requests:
            raise BudgetSpent
        self._session.requests += 1
        if not self._session.key:  # the client sends some key in any case
            request.headers.pop("Authorization", None)
        try:
            async with asyncio.timeout(spec.timeout_seconds):
                response = await super().send(request, **{**options, "stream": True})
                try:
                    body = await _read(response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no whole reply in time", request=request) from error
        # As it came: what is compressed, though nobody asked for that, stays so, and is no JSON then.
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise httpx2.RemoteProtocolError(f"a reply of more than {MAX_REPLY_BYTES} bytes", request=response.request)
    return bytes(body)
