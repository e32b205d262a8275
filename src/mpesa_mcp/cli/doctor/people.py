"""People: whether an organization has those whom its rules want to approve payouts."""

from collections.abc import Sequence

from mpesa_mcp.cli.doctor.findings import Finding, Status
from mpesa_mcp.identity.models import OrganizationStatus
from mpesa_mcp.identity.organizations import list_all
from mpesa_mcp.identity.users import list_users
from mpesa_mcp.policy.rule_book import RuleUnreadable, list_rules
from mpesa_mcp.policy.rules import Rule
from mpesa_mcp.store.engine import Store
from mpesa_mcp.values import Clock, Role


async def approvers(store: Store, clock: Clock) -> Sequence[Finding]:
    """Organizations that have fewer org_admins than their rules want approvals: such payouts wait in vain."""
    findings = []
    for organization in await list_all(store):
        if organization.status is OrganizationStatus.CLOSED:
            continue
        try:
            rules = await list_rules(store, clock, organization.organization_id)
        except RuleUnreadable:
            continue  # of a newer program, which payments tell
        people = await list_users(store, organization.organization_id)
        there = sum(user.role is Role.ORG_ADMIN and user.deactivated_at is None for user in people)
        wanted = max((_people_wanted(each.rule) for each in rules if not each.key_ended), default=0)
        if there < wanted:
            has = f"{organization.slug} has no org_admin" if not there else f"{organization.slug} has one org_admin"
            so = "nobody can approve what its rules hold" if not there else "nobody can approve what needs two people"
            fix = (
                f"Run: mpesa-mcp org invite --org {organization.slug} --email ...; they must open the link and choose "
                "a password. What was asked for before that must be declined and asked for again."
            )
            findings.append(Finding(f"approvers_{organization.slug}", Status.WARNING, f"{has}: {so}.", fix))
    return findings


def _people_wanted(rule: Rule) -> int:
    if rule.second_approval_above is not None:
        return 2
    return 1 if rule.approval_above is not None or rule.confirm_in_chat_above is not None else 0
