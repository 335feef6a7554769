"""Entry points for people who keep MCP servers and review their tools."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console import problems
from console.access import Request, requires
from releases import controls
from runtime.mcp import boards, forms, reviews, servers
from runtime.mcp.forms import ServerForm
from runtime.mcp.models import McpServer
from runtime.policies.offering import Standing


@require_GET
@requires("mcp.read")
def server_list(request: Request) -> HttpResponse:
    context = {"lines": boards.servers(), "may_manage": servers.may(request.actor, "mcp.manage")}
    return render(request, "mcp/server_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("mcp.manage")
def server_create(request: Request) -> HttpResponseBase:
    """The form; a refused one comes back with everything that was typed."""
    servers.guard(request.actor, "mcp.manage")
    if request.method != "POST":
        return _form(request, ServerForm(), None)
    form = ServerForm(request.POST)
    if form.is_valid():
        try:
            name = form.cleaned_data["name"]
            server = servers.register(name, form.wanted(), by=request.actor, reason=form.cleaned_data["reason"])
        except problems.Problem as problem:
            return _refused(request, form, problem, None)
        messages.success(request, f"{server.name} is added. A worker asks it what it offers.")
        return redirect(server)
    return _form(request, form, None, status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("mcp.manage")
def server_change(request: Request, name: str) -> HttpResponseBase:
    servers.guard(request.actor, "mcp.manage")
    server = McpServer.objects.get(name=name)
    if request.method != "POST":
        return _form(request, ServerForm(server=server, initial=forms.initial(server)), server)
    form = ServerForm(request.POST, server=server)
    if form.is_valid():
        try:
            servers.change(name, form.wanted(), by=request.actor, reason=form.cleaned_data["reason"])
        except problems.Problem as problem:
            return _refused(request, form, problem, server)
        messages.success(request, f"{server.name} is changed. A worker asks it what it offers.")
        return redirect(server)
    return _form(request, form, server, status=422)


@require_GET
@requires("mcp.read")
def server_detail(request: Request, name: str) -> HttpResponse:
    line = boards.server(name)
    context = {
        "line": line,
        "server": line.server,
        "controls": controls.of_server(request.actor, name),
        "may_manage": servers.may(request.actor, "mcp.manage"),
        "may_review": servers.may(request.actor, "mcp.review"),
        "is_asked": line.server.asked_at is not None and _is_after(line.server),
    }
    return render(request, "mcp/server_detail.html", context)


@require_POST
@requires("mcp.review")
def server_discover(request: Request, name: str) -> HttpResponseBase:
    server = servers.discover(name, by=request.actor)
    messages.success(request, f"A worker asks {server.name} what it offers.")
    return redirect(server)


@require_POST
@requires("mcp.review")
def server_disable(request: Request, name: str) -> HttpResponseBase:
    server = servers.disable(name, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{server.name} is off.")
    return redirect(server)


@require_POST
@requires("mcp.review")
def server_enable(request: Request, name: str) -> HttpResponseBase:
    server = servers.enable(name, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"{server.name} is on.")
    return redirect(server)


@require_GET
@requires("mcp.read")
def tool_detail(request: Request, name: str, tool: str) -> HttpResponse:
    page = boards.tool(name, tool)
    standing = page.line.standing
    context: dict[str, Any] = {
        "page": page,
        "tool": page.line.tool,
        "server": page.line.tool.server,
        "is_changed": standing == Standing.CHANGED,
        "may_review": standing in (Standing.NEW, Standing.CHANGED) and servers.may(request.actor, "mcp.review"),
        "manifest": _pretty(page.manifest) if page.manifest else "",
    }
    return render(request, "mcp/tool_detail.html", context)


@require_POST
@requires("mcp.review")
def tool_review(request: Request, name: str, tool: str) -> HttpResponseBase:
    review = reviews.review(
        name, tool, request.POST.get("digest", ""), by=request.actor, reason=request.POST.get("reason", "")
    )
    messages.success(request, f"{review.tool} is reviewed. A release that pins it may call it.")
    return redirect(review.tool)


def _is_after(server: McpServer) -> bool:
    """Whether an answer to the last question is still to come."""
    answers = [at for at in (server.seen_at, server.error_at) if at is not None]
    return server.asked_at is not None and (not answers or max(answers) < server.asked_at)


def _form(request: Request, form: ServerForm, server: McpServer | None, *, status: int = 200) -> HttpResponse:
    return render(request, "mcp/server_form.html", {"form": form, "server": server}, status=status)


def _refused(request: Request, form: ServerForm, problem: problems.Problem, server: McpServer | None) -> HttpResponse:
    form.refuse(problem)
    return _form(request, form, server, status=problem.status)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True)
