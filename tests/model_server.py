"""A small HTTP server that speaks OpenAI's chat completions and Anthropic's messages, plain and streamed.

    with ModelServer() as server:
        server.script(Answer(status=429, retry_after="2"), Answer("Hello."))

Answers are given in order; the last one is repeated. `server.requests` keeps what was asked.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MEASURED = {"prompt_tokens": 40, "completion_tokens": 9, "cached": 0}


@dataclass(frozen=True)
class ProposedCall:
    name: str
    arguments: str
    id: str = "call_1"


@dataclass(frozen=True)
class Answer:
    """One answer. `usage` holds prompt_tokens, completion_tokens and cached; None leaves it out."""

    text: str = ""
    calls: tuple[ProposedCall, ...] = ()
    status: int = 200
    error: str = "The server says no."
    error_type: str = "server_error"
    retry_after: str = ""
    delay_s: float = 0  # before the first byte
    stall_s: float = 0  # before each further event
    usage: dict[str, Any] | None = field(default_factory=lambda: dict(MEASURED))
    model: str = "stub-1"
    cut_after: int | None = None  # events sent before the connection closes
    garbage_after: int | None = None  # events sent before one that is not JSON
    thinking: str = ""
    signature: str = ""
    finish: str = ""
    location: str = ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Chooser = Callable[[dict[str, Any]], Answer]


class ModelServer:
    def __init__(self, choose: Chooser | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: deque[Answer] = deque([Answer("Hello.")])
        self.choose = choose
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Base URL of the OpenAI-compatible part."""
        return f"{self.origin}/v1"

    def script(self, *answers: Answer) -> None:
        self.answers = deque(answers)

    def next_answer(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            if self.choose is not None:
                return self.choose(body)
            return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            answer = server.next_answer(body, {name.lower(): value for name, value in self.headers.items()})
            time.sleep(answer.delay_s)
            # A client that gives up is what some tests are about.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._answer(answer, body)

        def _answer(self, answer: Answer, body: dict[str, Any]) -> None:
            if answer.status != 200:
                self._json(answer.status, {"error": _error(answer)}, answer)
            elif self.path.endswith("/messages"):
                self._stream(_anthropic(answer), answer)
            elif body.get("stream"):
                self._stream(_openai(answer, body), answer)
            else:
                self._json(200, _openai_plain(answer), answer)

        def _json(self, status: int, content: dict[str, Any], answer: Answer) -> None:
            text = json.dumps(content).encode()
            if answer.garbage_after is not None:
                text = text[: len(text) // 2]
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            if answer.retry_after:
                self.send_header("Retry-After", answer.retry_after)
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            self.wfile.write(text)

        def _stream(self, events: Iterator[str], answer: Answer) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number, event in enumerate(events):
                if number == answer.cut_after:
                    break
                if number:
                    time.sleep(answer.stall_s)
                if number == answer.garbage_after:
                    event = event[: -len(event) // 3].rstrip() + "\n\n"
                self.wfile.write(event.encode())
                self.wfile.flush()

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _error(answer: Answer) -> dict[str, Any]:
    return {"message": answer.error, "type": answer.error_type, "code": None}


def _pieces(text: str, size: int = 6) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _openai(answer: Answer, body: dict[str, Any]) -> Iterator[str]:
    def chunk(delta: dict[str, Any] | None, finish: str | None = None, usage: dict[str, Any] | None = None) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        content = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": answer.model}
        return f"data: {json.dumps({**content, 'choices': choices, 'usage': usage})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(answer.thinking):
        yield chunk({"reasoning_content": piece})
    for piece in _pieces(answer.text):
        yield chunk({"content": piece})
    for index, call in enumerate(answer.calls):
        head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield chunk({"tool_calls": [head]})
        for piece in _pieces(call.arguments, 9):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, answer.finish or ("tool_calls" if answer.calls else "stop"))
    if answer.usage is not None and body.get("stream_options", {}).get("include_usage"):
        yield chunk(None, usage=_openai_usage(answer.usage))
    yield "data: [DONE]\n\n"


def _openai_usage(usage: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: usage[name] for name in ("prompt_tokens", "completion_tokens") if name in usage}
    if usage.get("cached"):
        found["prompt_tokens_details"] = {"cached_tokens": usage["cached"]}
    return {**found, "total_tokens": 0}


def _openai_plain(answer: Answer) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.calls
    ]
    message = {"role": "assistant", "content": answer.text or None, **({"tool_calls": calls} if calls else {})}
    finish = answer.finish or ("tool_calls" if calls else "stop")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": None if answer.usage is None else _openai_usage(answer.usage),
    }


def _anthropic(answer: Answer) -> Iterator[str]:
    def event(kind: str, **content: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n"

    counted = answer.usage or {}
    read = counted.get("prompt_tokens", 0)
    opening = {
        # Anthropic counts cached tokens apart from the others.
        "input_tokens": read - counted["cached"] if counted.get("cached") else read,
        "cache_read_input_tokens": counted.get("cached", 0),
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": answer.model, "content": []}
    yield event("message_start", message={**message, "stop_reason": None, "stop_sequence": None, "usage": opening})
    index = -1
    for index, (block, deltas) in enumerate(_anthropic_blocks(answer)):
        yield event("content_block_start", index=index, content_block=block)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    stop = answer.finish or ("tool_use" if answer.calls else "end_turn")
    closing = {"output_tokens": counted.get("completion_tokens", 0)}
    yield event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=closing)
    yield event("message_stop")


def _anthropic_blocks(answer: Answer) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if answer.thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(answer.thinking)]
        deltas.append({"type": "signature_delta", "signature": answer.signature})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if answer.text:
        yield (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": piece} for piece in _pieces(answer.text)],
        )
    for call in answer.calls:
        pieces = _pieces(call.arguments, 9)
        yield (
            {"type": "tool_use", "id": call.id, "name": call.name, "input": {}},
            [{"type": "input_json_delta", "partial_json": piece} for piece in pieces],
        )
