"""What every page goes through: whose cookie it is, whether they may, and whether a form was filled in on our page."""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import Response

from mpesa_mcp.billing.states import Act
from mpesa_mcp.console import words
from mpesa_mcp.errors import DeniedError, InputError, InternalFault, MpesaMcpError, NotFoundError
from mpesa_mcp.identity.console_cookies import form_token
from mpesa_mcp.identity.named import names_of
from mpesa_mcp.identity.organizations import OrganizationRecord, get_organization
from mpesa_mcp.identity.permissions import Permission
from mpesa_mcp.identity.principal import Actor, Principal, Unauthenticated
from mpesa_mcp.identity.refused_requests import record_refusal
from mpesa_mcp.payments.approval_reading import count_waiting
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import is_loopback
from mpesa_mcp.values import Role

CONSOLE_PATH: Final = "/console"
SIGN_IN_PATH: Final = f"{CONSOLE_PATH}/sign-in"
SIGN_OUT_PATH: Final = f"{CONSOLE_PATH}/sign-out"
# The field of a form that shows that it was ours.
FORM_TOKEN: Final = "form_token"  # noqa: S105 - a name
_MOST_BYTES, _MOST_FIELDS = 64 * 1024, 50
# The page that the form of an action stands on; of a rule it has the same address.
_STANDS_ON: Final = re.compile(
    r"/console/(?:(?:approvals|payments|batches)/[^/]+|rules(?=/proposals/)|rules/[^/]+|keys)"
)
_PATH_OF_OURS: Final = re.compile(r"/console/[\w/?=&%.:+-]*", re.ASCII)
_FROM_HERE: Final = frozenset({"same-origin", "none"})


class NotOurForm(DeniedError):
    """A form that does not carry this session's token: sent by another site, or left open over a new sign-in."""

    code = "not_our_form"

    def __init__(self) -> None:
        super().__init__("This form is not good any more. Nothing was changed. Open the page again and repeat.")


class FormUnreadable(InputError):
    code = "form_unreadable"
    http_status = 400

    def __init__(self) -> None:
        super().__init__("The form cannot be read. Nothing was changed.")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a person who is signed in. `form` is empty unless one was sent; `token` is for the forms shown.

    `organization` is theirs (the platform's people have none); `waiting` how many approvals wait, for those who may
    approve; `unfreezing` what people call who asked for the lifting of a freeze.
    """

    request: Request
    core: Core
    principal: Principal
    token: str
    organization: OrganizationRecord | None = None
    waiting: int = 0
    unfreezing: str | None = None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def organization_id(self) -> str:
        return self.principal.organization_id

    @property
    def actor(self) -> Actor:
        return self.principal.as_actor

    @property
    def query(self) -> Mapping[str, str]:
        """What the address says, without what was left empty."""
        return {name: value.strip() for name, value in self.request.query_params.items() if value.strip()}

    def may(self, least: str) -> bool:
        """Whether the visitor has this role or more."""
        return self.principal.role.at_least(Role(least))


Shown = Callable[[Visit], Awaitable[Response]]
Again = Callable[[Visit, MpesaMcpError], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def page(
    least: Role | None, *, platform: bool = False, act: Act = Act.READ, again: Again | None = None
) -> Callable[[Shown], Endpoint]:
    """Makes a page out of a function: for whom it is stands where it is written, and whether it lets money out (`act`).

    `again` shows what a form stands on once more, with the reason why the form was refused.
    """
    permission = Permission(least, platform=platform, person=True)

    def made(shown: Shown) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            visit = await _visit(request, act)
            try:
                permission.check(visit.principal)
                if request.method == "POST":
                    visit = replace(visit, form=await sent_form(request, visit.token))
            except MpesaMcpError as refused:
                await _record(visit, refused)
                raise
            try:
                return await shown(visit)
            except MpesaMcpError as refused:
                await _record(visit, refused)
                if again is None or isinstance(refused, InternalFault | NotFoundError):
                    raise
                return await again(visit, refused)

        endpoint.__doc__ = shown.__doc__
        endpoint.permission, endpoint.act = permission, act  # type: ignore[attr-defined] # read by a test
        return endpoint

    return made


def core_of(request: Request) -> Core:
    core: Core = request.app.state.core
    return core


async def sent_form(request: Request, token: str) -> Mapping[str, str]:
    """The fields of a form that carries this token. Raises FormUnreadable, NotOurForm."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise FormUnreadable
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise FormUnreadable
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as unreadable:
        raise FormUnreadable from unreadable
    # Browsers say where a form was sent from; the token is what counts where one does not.
    is_from_here = request.headers.get("sec-fetch-site", "none") in _FROM_HERE
    if not is_from_here or not hmac.compare_digest(fields.get(FORM_TOKEN, "").encode(), token.encode()):
        raise NotOurForm
    return fields


def is_secure(request: Request) -> bool:
    """Whether cookies travel over TLS alone; on this machine itself there is none."""
    reached_at = core_of(request).settings.reached_at
    return reached_at.startswith("https://") or not is_loopback(reached_at)


def cookie_name(request: Request, name: str = "mpesa_mcp") -> str:
    """What a cookie of ours is called: with this prefix a browser takes it from this host alone, and only over TLS."""
    return f"__Host-{name}" if is_secure(request) else name


def asked_for(request: Request) -> str:
    """The page to come back to after signing in, quoted for an address; what is swapped into one names the whole."""
    shown = request.headers.get("hx-current-url")
    if request.method != "GET":
        return quote(stands_on(request), safe="/")
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return quote(path if shown is None else "/" + shown.partition("://")[2].partition("/")[2], safe="/")


def stands_on(request: Request) -> str:
    """The page with the form for what was asked."""
    found = _STANDS_ON.match(request.url.path)
    return found.group() if found else f"{CONSOLE_PATH}/"


def path_of_ours(text: str) -> str:
    """The text if it is a page of the console, else where the console begins."""
    return text if _PATH_OF_OURS.fullmatch(text) and "//" not in text else f"{CONSOLE_PATH}/"


async def _visit(request: Request, act: Act) -> Visit:
    """Raises Unauthenticated, RateLimited, LimiterUnavailable."""
    core = core_of(request)
    principal = await core.authentication.principal_of_cookie(request.cookies.get(cookie_name(request), ""))
    if principal.session_id is None or not principal.is_person:
        raise Unauthenticated
    visit = Visit(request, core, principal, await form_token(core.keyring, principal.session_id))
    request.state.visit = visit  # a page that refuses shows who is signed in
    await core.billing.admit(principal, act)
    if principal.role is Role.SUPER_ADMIN:
        return visit
    async with core.store.reading(principal.organization_id) as session:
        organization = await get_organization(session)
        waiting = await count_waiting(session) if principal.role is Role.ORG_ADMIN else 0
        asked_by = organization.unfreeze_asked_by
        unfreezing = words.caller(asked_by, (await names_of(session, [asked_by]))[asked_by]) if asked_by else None
    request.state.visit = visit = replace(visit, organization=organization, waiting=waiting, unfreezing=unfreezing)
    return visit


async def _record(visit: Visit, refused: MpesaMcpError) -> None:
    asked, core = visit.request, visit.core
    method, path, named = asked.method, asked.scope["path"], asked.path_params
    await record_refusal(core.store, core.clock, visit.principal, refused, method=method, path=path, named=named)
