"""What every request and answer of the programs' interface has in common: strict JSON in, problems out, pages."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, cast
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.datastructures import MultiValueDict
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser
from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic_core import core_schema

from console import ids, problems
from console.access import Request
from console.states import IllegalMove

log = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=Model)

ROOT = "/api/v1/"
PROBLEM = "application/problem+json"
LARGEST_PAGE = 200
DEEPEST_JSON = 32
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TOKEN_NAMES = {"token", "access_token", "api_key", "apikey", "key", "authorization", "auth", "bearer"}
NOTHING_HERE = "There is nothing at this address, or it is not open to this token."


# Ids in the path


@dataclass(frozen=True)
class _PublicId:
    """A public id in a path, read into its key. Anything else there is an unknown address."""

    prefix: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.prefix}_[{ids.ALPHABET}]{{{ids.LENGTH}}}$"}

    def _read(self, text: Any) -> UUID:
        return ids.parse(self.prefix, str(text))


RunId = Annotated[UUID, _PublicId("run")]
StepId = Annotated[UUID, _PublicId("stp")]
ThreadId = Annotated[UUID, _PublicId("thr")]
ApprovalId = Annotated[UUID, _PublicId("apr")]
ReleaseId = Annotated[UUID, _PublicId("rel")]
SwitchId = Annotated[UUID, _PublicId("ksw")]
ScheduleId = Annotated[UUID, _PublicId("sch")]


# Bodies and queries


class Body(Schema):
    """A request body. Fields that do not exist are refused, so that a typo is not an unlimited budget."""

    model_config = ConfigDict(extra="forbid")


class Filters(Schema):
    """The query of a list. Unknown parameters are refused, so that a typo does not select everything."""

    cursor: str = Field("", max_length=80, description="next_cursor of the page before")
    limit: int = Field(50, ge=1, le=LARGEST_PAGE)

    @model_validator(mode="before")
    @classmethod
    def _all_known(cls, data: Any, info: ValidationInfo) -> Any:
        request = (info.context or {}).get("request")
        unknown = sorted(set(request.GET) - set(cls.model_fields)) if request is not None else []
        if unknown:
            known = ", ".join(cls.model_fields)
            raise ValueError(f"There is no parameter {unknown[0][:60]!r}. Known: {known}.")
        return data


class StrictParser(Parser):
    """JSON without duplicate keys, NaN or text that the database cannot hold."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        if len(request.body) > settings.API_LARGEST_BODY_BYTES:  # sent in chunks, without saying its length
            raise too_large()
        try:
            text = request.body.decode()
        except UnicodeDecodeError as wrong:
            raise ValueError("it is not UTF-8") from wrong
        return cast(dict[str, Any], read_json(text))

    def parse_querydict(
        self, data: MultiValueDict[str, str], list_fields: list[str], request: HttpRequest
    ) -> dict[str, Any]:
        for name, value in data.items():
            if "\0" in f"{name}{value}":
                raise problems.Invalid("A query parameter holds a NUL character.", errors={name: "Holds NUL."})
        return super().parse_querydict(data, list_fields, request)


def read_json(text: str) -> Any:
    """JSON as strictly as bodies are read: no key twice, no NaN, nothing that the database cannot hold.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        parsed = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as wrong:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} levels deep") from wrong
    _check_storable(parsed)
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands in it twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _check_storable(value: Any, depth: int = 0) -> None:
    if depth > DEEPEST_JSON:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} levels deep")
    if isinstance(value, str):
        if "\0" in value or (not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)):
            raise ValueError("a text holds a NUL character or half a surrogate pair")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_storable(name, depth)
            _check_storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_storable(item, depth + 1)


# Lists


class Page(Schema, Generic[T]):
    """One page, newest first. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None


def cut(rows: QuerySet[M], filters: Filters) -> tuple[list[M], str | None]:
    """The rows of the page that `filters` asks for, and the cursor of the next one."""
    if filters.cursor:
        rows = rows.filter(pk__lt=_cursor(filters.cursor))
    found = list(rows.order_by("-pk")[: filters.limit + 1])
    items = found[: filters.limit]
    return items, ids.public("cur", cast(UUID, items[-1].pk)) if len(found) > filters.limit else None


def _cursor(text: str) -> UUID:
    try:
        return ids.parse("cur", text)
    except ValueError as wrong:
        raise problems.Invalid(
            "The cursor is not one that a list gave out. Leave it out to begin at the newest.",
            errors={"cursor": "Use next_cursor of the page before."},
        ) from wrong


# Problems


def install(api: NinjaAPI) -> None:
    """Let every error of the interface answer as a problem."""
    for kind, translate in _TRANSLATIONS.items():
        api.add_exception_handler(kind, _handler(translate))


def answer(request: HttpRequest, wrong: problems.Problem) -> HttpResponse:
    """RFC 9457: type, title, status, detail, and `errors` by field where there are any."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": wrong.title,
        "status": wrong.status,
        "detail": wrong.detail,
        "request_id": request_id(request),
        **{name: value for name, value in wrong.extra.items() if value},
    }
    response = JsonResponse(body, status=wrong.status, content_type=PROBLEM)
    if "retry_after" in wrong.extra:
        response["Retry-After"] = str(wrong.extra["retry_after"])
    if wrong.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="steadyhand"'
    return response


def missing() -> problems.Missing:
    """The same words for what does not exist and for what this token may not see."""
    return problems.Missing(NOTHING_HERE)


def _handler(
    translate: Callable[[Any], problems.Problem],
) -> Callable[[HttpRequest, Any], HttpResponse]:
    def handle(request: HttpRequest, wrong: Any) -> HttpResponse:
        return answer(request, translate(wrong))

    return handle


def _unexpected(wrong: Exception) -> problems.Problem:
    log.error("An API request failed", exc_info=wrong)
    return problems.Problem(
        "Something went wrong on our side. Send the same request again with the same Idempotency-Key; if it fails "
        "again, tell the operator the request_id.",
        status=500,
        title="This did not work",
    )


def _of_http(wrong: HttpError) -> problems.Problem:
    cause = wrong.__cause__
    if isinstance(cause, problems.Problem):
        return cause
    if wrong.status_code == 400 and cause is not None:
        return problems.Problem(f"The body cannot be read as JSON: {str(cause)[:200]}.", title="Not JSON")
    return problems.Problem(str(wrong), status=wrong.status_code)


def _of_validation(wrong: ValidationError) -> problems.Problem:
    """A bad id in the path is an unknown address; anything else names its field."""
    if any(error["loc"][0] == "path" for error in wrong.errors):
        return missing()
    errors = dict(_sentences(wrong.errors))
    told = " ".join(f"{field}: {sentence}" for field, sentence in list(errors.items())[:5])
    return problems.Invalid(f"The request was not carried out. {told}", errors=errors)


def _sentences(errors: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for error in errors:
        source, *place = error["loc"]
        # The name of the handler's parameter stands first for bodies; callers do not know it.
        if source == "body" or (source == "query" and place[:1] == ["filters"]):
            place = place[1:]
        sentence = {
            "missing": "This field is required.",
            "extra_forbidden": "There is no such field. Check its spelling or leave it out.",
        }.get(error["type"], error["msg"].removeprefix("Value error, "))
        yield ".".join(map(str, place)) or source, sentence if sentence.endswith(".") else f"{sentence}."


_TRANSLATIONS: dict[type[Exception], Callable[[Any], problems.Problem]] = {
    problems.Problem: lambda wrong: wrong,
    IllegalMove: lambda wrong: problems.Conflict(str(wrong)),
    ObjectDoesNotExist: lambda _: missing(),
    Http404: lambda _: missing(),
    AuthenticationError: lambda _: problems.Problem("Send a token.", status=401, title="Not signed in"),
    HttpError: _of_http,
    ValidationError: _of_validation,
    Exception: _unexpected,
}


# Around every request


def request_id(request: HttpRequest) -> str:
    """The caller's X-Request-Id when it is usable, one of ours otherwise."""
    known = getattr(request, "request_id", "")
    if not known:
        given = request.headers.get("X-Request-Id", "")
        known = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        cast(Any, request).request_id = known
    return str(known)


class EnvelopeMiddleware:
    """Guards the interface before anything reads the request, and gives every answer the same headers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(ROOT):
            return self.get_response(request)
        refused = _refusal(request)
        response = answer(request, refused) if refused else self.get_response(request)
        if response.status_code >= 400 and response.get("Content-Type") != PROBLEM:
            response = answer(request, _of_status(response.status_code, response))
        response["X-Request-Id"] = request_id(request)
        rate = getattr(cast(Request, request), "rate", None)
        if rate is not None:
            response["RateLimit-Limit"] = str(rate.limit)
            response["RateLimit-Remaining"] = str(rate.remaining)
            response["RateLimit-Reset"] = str(rate.reset_s)
        return response


def _refusal(request: HttpRequest) -> problems.Problem | None:
    if any(name.lower() in TOKEN_NAMES for name in request.GET):
        return problems.Problem(
            "A token never goes into the address, where logs and histories keep it. Send it in the header "
            "Authorization: Bearer <token>, and revoke this one if it was real.",
            title="Token in the address",
        )
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    if length > settings.API_LARGEST_BODY_BYTES:
        return too_large()
    return None


def too_large() -> problems.Problem:
    limit = settings.API_LARGEST_BODY_BYTES
    return problems.Problem(
        f"A request body may have at most {limit:,} bytes. Send less, or give the agent a reference to the text.",
        status=413,
        title="Too large",
    )


def _of_status(status: int, response: Mapping[str, str] | HttpResponseBase) -> problems.Problem:
    """For answers that Django gave before or beside our handlers."""
    if status == 404:
        return missing()
    if status == 405:
        allowed = cast(HttpResponseBase, response).get("Allow", "")
        return problems.Problem(
            f"This address does not take that method. It takes: {allowed}.", status=405, title="Wrong method"
        )
    if status >= 500:
        return problems.Problem("Something went wrong on our side.", status=status, title="This did not work")
    return problems.Problem("The request could not be understood.", status=status)
