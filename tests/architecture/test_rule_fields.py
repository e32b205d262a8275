"""A field of a rule is everywhere a rule is written or shown: one that is forgotten is lost by who saves the form."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

from mpesa_mcp.api.spend_rules import RuleBody
from mpesa_mcp.cli.rules import set_
from mpesa_mcp.console.words import RULES, RULES_TOO
from mpesa_mcp.policy.rules import Rule
from mpesa_mcp.tools.limits import RuleLimit

FIELDS = {field.name for field in fields(Rule)}
DOCS = Path(__file__).parents[2] / "docs" / "rules.md"
# These the tool shows as windows, with what is left of each.
IN_WINDOWS = {f"{sort}_{window}" for sort in ("per", "payments_per") for window in ("hour", "day", "month")}


def test_a_field_of_a_rule_is_in_every_place_that_writes_or_shows_one() -> None:
    assert set(RuleBody.model_fields) == FIELDS
    assert set(inspect.signature(set_).parameters) - {"org", "scope", "clear", "as_json"} == FIELDS
    assert {name for group in RULES.values() for name in group} | set(RULES_TOO) == FIELDS
    assert set(RuleLimit.model_fields) - {"scope", "windows"} | IN_WINDOWS == FIELDS
    documented = {
        name
        for line in DOCS.read_text().splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert documented == FIELDS
