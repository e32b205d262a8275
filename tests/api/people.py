"""Who calls the API in these tests: somebody of every role, as a person, by a key, and through an assistant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.api_keys import create_key
from mpesa_mcp.identity.models import PLATFORM
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.passwords import hash_password
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.sessions import Sessions
from mpesa_mcp.identity.support_grants import give_grant
from mpesa_mcp.identity.users import UserRecord, add_user
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Environment, Role, Secret
from tests.rates import ask_without_limit

PASSWORD = "correct horse battery"
OPERATOR = Actor("operator:tester", None)
# Everybody who may call: a person of each role, an org_admin's key, an org_admin whose session an assistant has used.
CALLERS = ("nobody", "user", "manager", "org_admin", "org_admin_key", "org_admin_on_mcp", "super_admin")


@dataclass(frozen=True)
class People:
    """Bearer tokens by caller, and the ids of ours."""

    tokens: Mapping[str, str]
    users: Mapping[str, UserRecord]
    organization_id: str
    # The org_admin of an organization that has nothing to do with it.
    stranger: str
    strangers_organization_id: str

    def headers(self, caller: str) -> dict[str, str]:
        token = self.stranger if caller == "stranger" else self.tokens.get(caller)
        return {"Authorization": f"Bearer {token}"} if token else {}


async def make_people(core: Core, *, slug: str = "acme") -> People:
    acme = await _organization(core, slug)
    zebra = await _organization(core, f"{slug}-zebra")
    await ask_without_limit(core, PLATFORM)
    password_hash = await hash_password(Secret(PASSWORD))
    tokens: dict[str, str] = {}
    users: dict[str, UserRecord] = {}
    for name, organization_id, role in (
        ("user", acme, Role.USER),
        ("manager", acme, Role.MANAGER),
        ("org_admin", acme, Role.ORG_ADMIN),
        ("org_admin_on_mcp", acme, Role.ORG_ADMIN),
        ("super_admin", PLATFORM, Role.SUPER_ADMIN),
        ("stranger", zebra, Role.ORG_ADMIN),
    ):
        async with core.store.session(organization_id) as session:
            users[name] = await add_user(
                session,
                core.clock,
                email=f"{name}@{slug}.example",
                role=role,
                password_hash=password_hash,
                actor=OPERATOR.name,
                seats=seats_of,
            )
        tokens[name] = await signed_in(core, users[name].email)
    await core.authentication.principal_on_mcp(tokens["org_admin_on_mcp"])
    # So that whoever of the platform may read the organization's payments, can.
    admin = Actor(f"user:{users['org_admin'].user_id}", Role.ORG_ADMIN, users["org_admin"].user_id)
    await give_grant(core.store, core.clock, organization_id=acme, hours=24, reason="Tests", actor=admin)
    tokens["org_admin_key"] = await a_key(core, acme, Role.ORG_ADMIN)
    return People(tokens, users, acme, tokens.pop("stranger"), zebra)


async def signed_in(core: Core, email: str) -> str:
    sessions = Sessions(core.store, core.keyring, core.settings, core.clock)
    return (await sessions.sign_in(email, Secret(PASSWORD))).access_token.reveal()


async def a_key(core: Core, organization_id: str, role: Role) -> str:
    made = await create_key(
        core.store,
        core.keyring,
        core.clock,
        organization_id=organization_id,
        name="assistant",
        role=role,
        environment=Environment.SIMULATOR,
        expires_at=None,
        tools=None,
        actor=OPERATOR,
    )
    return made.key.reveal()


async def _organization(core: Core, slug: str) -> str:
    made = await create_organization(core.store, core.clock, name=slug.title(), slug=slug, actor=OPERATOR.name)
    await ask_without_limit(core, made.organization_id)
    return made.organization_id


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    """The error of a refusal, without what is another one each time."""
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"code", "message", "advice", "request_id"}
    assert error.pop("request_id") == answer.headers["X-Request-ID"]
    return error
