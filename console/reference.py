"""The reference of the programs' interface as a page of the console, made from its OpenAPI schema.

Rendered here rather than by a bundled viewer, so that it needs no script, no foreign host and no hole in the CSP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase

from console import access

METHODS = ("get", "post", "put", "patch", "delete")
WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
FORMATS = {"date-time": "time", "decimal": "decimal"}
PAGE = re.compile(r"Page_(\w+)_")  # how a page of something is called in the schema


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    is_required: bool
    note: str
    where: str = ""  # path, query or header; empty in bodies and answers


@dataclass(frozen=True)
class Answer:
    status: str
    type: str
    note: str
    link: str  # name of the object, empty where there is none


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    title: str
    text: str
    scope: str
    parameters: list[Field]
    body: list[Field]
    answers: list[Answer]


@dataclass(frozen=True)
class Schema:
    name: str
    text: str
    fields: list[Field]


class Reference(DocsBase):
    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        if cast(access.Request, request).actor.kind == "anonymous":
            return access.sign_in_first(request)
        document = api.get_openapi_schema(path_params=kwargs)
        context = {
            "api": document["info"],
            "sections": sections(document),
            "schemas": schemas(document),
            "schema_url": self.get_openapi_url(api, kwargs),
        }
        return render(request, "console/api_reference.html", context)


def sections(document: Mapping[str, Any]) -> list[tuple[str, list[Operation]]]:
    """Operations by their first tag, in the order in which they were mounted."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                told = methods[method]
                found.setdefault(told.get("tags", ["Other"])[0], []).append(_operation(document, path, method, told))
    return list(found.items())


def schemas(document: Mapping[str, Any]) -> list[Schema]:
    """The objects that operations answer with. Those that are only sent stand with their operation."""
    known = document["components"]["schemas"]
    sent = {_name(_body(told)) for methods in document["paths"].values() for told in methods.values()}
    return [
        Schema(name, schema.get("description", ""), _fields(document, schema))
        for name, schema in sorted(known.items())
        if name not in sent and "properties" in schema and not name.endswith("Filters") and not PAGE.fullmatch(name)
    ]


def _operation(document: Mapping[str, Any], path: str, method: str, told: Mapping[str, Any]) -> Operation:
    body = _resolved(document, _body(told))
    return Operation(
        id=told["operationId"],
        method=method.upper(),
        path=path,
        title=told["summary"],
        text=told.get("description", ""),
        scope=told.get("x-scope", ""),
        parameters=[_parameter(document, parameter) for parameter in told.get("parameters", [])],
        body=_fields(document, body),
        answers=[_answer(document, str(status), answer) for status, answer in told["responses"].items()],
    )


def _body(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return _content(told.get("requestBody", {}))[1]


def _content(part: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Media type and schema of a body or an answer; both empty where there is none."""
    content: dict[str, dict[str, Any]] = part.get("content", {})
    return next(((kind, told.get("schema", {})) for kind, told in content.items()), ("", {}))


def _answer(document: Mapping[str, Any], status: str, answer: Mapping[str, Any]) -> Answer:
    kind, schema = _content(answer)
    told = "any error" if status == "default" else status
    page = PAGE.fullmatch(_name(schema))
    note = "" if answer["description"] == "OK" else answer["description"]
    return Answer(told, _type(document, schema) if "$ref" in schema else kind, note, page[1] if page else _name(schema))


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    note = parameter.get("description") or schema.get("description", "")
    # A parameter that may be null is one that may be left out.
    told = _type(document, schema).removesuffix(" or null")
    return Field(parameter["name"], told, bool(parameter.get("required")), note, parameter["in"])


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Field]:
    required = set(schema.get("required", []))
    return [
        Field(name, _type(document, part), name in required, part.get("description", ""))
        for name, part in schema.get("properties", {}).items()
    ]


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = _name(schema)
    return cast(Mapping[str, Any], document["components"]["schemas"][name]) if name else schema


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `list of StepOut`, `text or null`, `one of approve, reject`."""
    if "$ref" in schema:
        name = _name(schema)
        page = PAGE.fullmatch(name)
        is_choice = "enum" in document["components"]["schemas"].get(name, {})
        return _type(document, _resolved(document, schema)) if is_choice else f"page of {page[1]}" if page else name
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(document, part) for part in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    kind = FORMATS.get(schema.get("format", "")) or WORDS.get(schema.get("type", ""), schema.get("type", "any value"))
    return " ".join([kind, *_limits(schema)])


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "maxLength": "of at most {} characters",
    }
    return (text.format(f"{schema[name]:,}") for name, text in words.items() if name in schema)
