"""What was used and may be spent, and what instances can be made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query

from ...errors import InvalidInput
from ...fleet import Budget, TokenUsage
from ..guards import Reader, seen
from ..identities import Identity
from ..instance_schemas import TemplateList, UsageReport
from ..service import Service
from .common import PROBLEMS, TheService

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["usage"], responses=PROBLEMS)

_Text = Annotated[str | None, Query(max_length=200)]


@router.get("/usage", response_model=UsageReport)
async def show_usage(
    service: TheService,
    who: Reader,
    instance: Annotated[
        str | None, Query(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$", description="Of this one only.", examples=["work"])
    ] = None,
    project: Annotated[_Text, Query(description="Of this one only.")] = None,
    session: Annotated[_Text, Query(description="Of this session of Claude Code's only.")] = None,
    day: Annotated[
        str | None,
        Query(
            pattern=r"^\d{4}-\d{2}-\d{2}$",
            description="Of this day only, in UTC.",
            examples=["2026-01-31"],
            json_schema_extra={"format": "date"},
        ),
    ] = None,
) -> dict[str, Any]:
    """What all that is named has used together, and what is spent of the budgets. A turn counts when it has ended.

    Who does not see all instances is told of those that they see, and that are there.
    """
    shown, on = _in_question(service, who, instance, project), _date(day)
    if who.sees_all:
        usage = service.fleet.accounts.total(instance=instance, project=project, session=session, day=on)
    elif instance is None and session is not None:
        raise InvalidInput("whose session it is has to be said, too", hint="Add `instance`.")
    else:
        usage = TokenUsage()
        for name, _ in shown:
            usage += service.fleet.accounts.total(instance=name, session=session, day=on)
    return {"usage": {**asdict(usage), "tokens": usage.tokens}, "budgets": list(_budgets(service, who, shown))}


@router.get("/templates", response_model=TemplateList)
async def list_templates(service: TheService, who: Reader) -> dict[str, Any]:
    """What `POST /v1/instances` can make instances from."""
    spares = service.fleet.spares
    return {
        "templates": [
            {"name": name, "kind": template.fields.get("kind", "docker"), "spares": spares.get(name, 0)}
            for name, template in sorted(service.fleet.templates.items())
        ]
    }


def _date(day: str | None) -> date | None:
    try:
        return date.fromisoformat(day) if day else None
    except ValueError:
        raise InvalidInput(f"there is no day {day}", hint="It is written as 2026-01-31 is.") from None


def _in_question(service: Service, who: Identity, instance: str | None, project: str | None) -> list[tuple[str, str]]:
    """The instances that are there and that it is about, each with its project."""
    if instance is not None and (not who.sees_all or service.board.exists(instance)):
        names = [seen(service, who, instance)["name"]]
    elif instance is not None:
        names = []  # removed: its accounts are still there
    else:
        names = [name for name in service.fleet.names() if service.board.exists(name)]
    found = [(name, service.board.project(name)) for name in names]
    return [(name, of) for name, of in found if project in (None, of) and who.sees(name, of)]


def _budgets(service: Service, who: Identity, shown: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The budgets of these instances, and of those of their projects that the caller sees as such."""
    instances = {name for name, _ in shown}
    projects = {project for _, project in shown if project and who.sees("", project)}
    for budget in service.fleet.accounts.budgets:
        whose, names = (budget.instance, instances) if budget.instance else (budget.project, projects)
        for name in sorted(names if whose == "*" else names & {whose}):
            yield _budget(service, budget, name)


def _budget(service: Service, budget: Budget, name: str) -> dict[str, Any]:
    return {
        "of": "instance" if budget.instance else "project",
        "name": name,
        "per": budget.per,
        "then": budget.then,
        "usd": budget.usd,
        "tokens": budget.tokens,
        "spent": service.fleet.accounts.spent(budget, name),
    }
