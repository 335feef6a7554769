"""The reference of the programs' interface as a page of the console, made from its OpenAPI schema.

Rendered here rather than by a bundled viewer, so that it needs no script, no foreign host and no hole in the CSP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase

from console import access

METHODS = ("get", "post", "put", "patch", "delete")


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
            "groups": groups(document),
            "schemas": schemas(document),
            "schema_url": self.get_openapi_url(api, kwargs),
        }
        return render(request, "console/api_reference.html", context)


def groups(document: Mapping[str, Any]) -> list[tuple[str, list[Operation]]]:
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
        if name not in sent and "properties" in schema
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
        parameters=[_parameter(parameter) for parameter in told.get("parameters", [])],
        body=_fields(document, body),
        answers=[_answer(str(status), answer) for status, answer in told["responses"].items()],
    )


def _body(told: Mapping[str, Any]) -> Mapping[str, Any]:
    content = told.get("requestBody", {}).get("content", {})
    return cast(Mapping[str, Any], next(iter(content.values()), {}).get("schema", {}))


def _answer(status: str, answer: Mapping[str, Any]) -> Answer:
    kind, content = next(iter(answer.get("content", {}).items()), ("", {}))
    schema = content.get("schema", {})
    return Answer(
        "any error" if status == "default" else status, _type(schema) if schema else kind, answer["description"]
    )


def _parameter(parameter: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    note = parameter.get("description") or schema.get("description", "")
    return Field(parameter["name"], _type(schema), bool(parameter.get("required")), note, parameter["in"])


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Field]:
    required = set(schema.get("required", []))
    return [
        Field(name, _type(part), name in required, part.get("description", ""))
        for name, part in schema.get("properties", {}).items()
    ]


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = _name(schema)
    return cast(Mapping[str, Any], document["components"]["schemas"][name]) if name else schema


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `list of StepOut`, `text or null`, `one of approve, reject`."""
    if "$ref" in schema:
        return _name(schema)
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    kind = {"date-time": "time", "decimal": "decimal"}.get(schema.get("format", "")) or words.get(
        schema.get("type", ""), schema.get("type", "any value")
    )
    return " ".join([kind, *_limits(schema)])


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "maxLength": "of at most {} characters",
    }
    return (text.format(f"{schema[name]:,}") for name, text in words.items() if name in schema)
