"""A small OpenAI-compatible judge on this machine: it judges by rule, and has the faults that real endpoints have."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = re.compile(r"^<data-(\w+)>\n(.*)\n</data-\1>$", re.MULTILINE)
Data = dict[str, str]  # what is judged: question, reference, and answer, or first and second


def by_reference(data: Data) -> dict[str, Any]:
    """Judges an answer right that says what the reference says."""
    if "answer" in data:
        right = data["answer"] == data["reference"]
        return {"reason": "by rule", "Relevance": 4, "Accuracy": 5 if right else 2, "Fluency": 3}
    first, second = (data[name] == data["reference"] for name in ("first", "second"))
    winner = "Tie" if first == second else "First" if first else "Second"
    return {"reason": "by rule", "winner": winner}


def always_first(data: Data) -> dict[str, Any]:
    """Prefers whichever answer stands first."""
    return {**by_reference(data), "winner": "First"} if "first" in data else by_reference(data)


@dataclass
class Fault:
    """What happens to one request in place of a judgement."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # in place of a completion
    content: str | None = None  # in place of a judgement, in a completion
    cut: int | None = None  # the connection ends after so many bytes
    hang: bool = False  # nothing is sent until the server ends
    drip: bool = False  # headers, then a byte now and then, without an end


@dataclass
class JudgeServer:
    """A running judge. What is asked is kept; ``faults`` meet the next requests, then all is well."""

    rule: Callable[[Data], Any]
    key: str | None = None  # any other gets a 401
    refuses: tuple[str, ...] = ()  # parameters that it has never heard of
    names_refused: bool = True  # whether it says which
    fault: Fault | None = None  # of every request
    endpoint: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def asked(self) -> list[Data]:
        """The data of each request."""
        return [data_of(body) for body in self.bodies]

    def take(self, body: dict[str, Any], key: str | None) -> Fault | None:
        """Notes a request; the fault that it meets, if any."""
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            return self.faults.popleft() if self.faults else self.fault


def data_of(body: dict[str, Any]) -> Data:
    """The data of a request, read as a judge is told to read it."""
    found = BLOCK.findall(body["messages"][-1]["content"])
    assert len(found) == 1, "a message holds one block of data"
    return json.loads(found[0][1])


@contextmanager
def running_judge(rule: Callable[[Data], Any] = by_reference, **options: Any) -> Iterator[JudgeServer]:
    """A judge that answers on a free port."""
    judge = JudgeServer(rule, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"judge": judge}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    judge.endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        judge.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    judge: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # what a redirect would lead to
        self._send(405, {}, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        given = self.headers.get("Authorization")
        fault = self.judge.take(body, given)
        if self.judge.key and given != f"Bearer {self.judge.key}":
            told = {"error": {"message": f"Incorrect API key provided: {given}", "code": "invalid_api_key"}}
            return self._json(401, told)
        unknown = [name for name in self.judge.refuses if name in body]
        if unknown:
            named = {"param": unknown[0]} if self.judge.names_refused else {}
            return self._json(400, {"error": {"message": "Unknown parameter", **named}})
        if fault is None:
            return self._json(200, completion(json.dumps(self.judge.rule(data_of(body)))))
        if fault.hang or fault.drip:
            return self._hold(fault)
        sent = json.dumps(completion(fault.content)).encode() if fault.content is not None else fault.body
        return self._send(fault.status, fault.headers, sent if sent is not None else b"{}", fault.cut)

    def _hold(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.drip:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
        while not self.judge.ended.wait(0.05):
            if fault.drip:
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return

    def _json(self, status: int, value: Any) -> None:
        self._send(status, {}, json.dumps(value).encode())

    def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body[:cut])
        except OSError:  # the other side has had enough
            self.close_connection = True
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def completion(text: str) -> dict[str, Any]:
    """A chat completion that says a text."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-2026-11-01",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
