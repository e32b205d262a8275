"""Signing in and out. A session is a row of `login_sessions`, which its cookie names; ending it ends the cookie."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mpesa_mcp.console.rendering import going_to, rendered
from mpesa_mcp.console.visits import (
    SIGN_IN_PATH,
    Visit,
    cookie_name,
    core_of,
    is_secure,
    page,
    path_of_ours,
    sent_form,
)
from mpesa_mcp.errors import Advice, DeniedError
from mpesa_mcp.identity.console_cookies import LIFE, form_token
from mpesa_mcp.identity.passwords import TooManyPasswords
from mpesa_mcp.identity.sessions import Sessions, ShutOut, WrongSignIn
from mpesa_mcp.identity.sign_in_failures import TooManyFailures
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Role, Secret, random_hex

# A browser that has not signed in has no session to tie a form to: it gets a random word of its own.
_FORM_COOKIE: Final = "mpesa_mcp_form"
_LONGEST_EMAIL, _LONGEST_PASSWORD = 254, 512


class NoCookies(DeniedError):
    """The browser keeps no cookie of this page: they are switched off, or the address is not the one people use."""

    code = "no_cookies"
    advice = Advice.FIX_INPUT

    def __init__(self, reached_at: str) -> None:
        super().__init__(
            "The browser did not send back the cookie of this page. Allow cookies, and sign in at "
            f"{reached_at}/console."
        )


async def ask(request: Request) -> Response:
    """The form; it says so where somebody was about to do something, and was not signed in any more."""
    after = path_of_ours(request.query_params.get("next", ""))
    return await _form(request, after=after, is_undone="undone" in request.query_params)


async def sign_in(request: Request) -> Response:
    """Begins a session and goes where the person was going."""
    core = core_of(request)
    word = request.cookies.get(cookie_name(request, _FORM_COOKIE))
    if not word:
        raise NoCookies(core.settings.reached_at)
    form = await sent_form(request, await _token(core, word))
    email, after = form.get("email", "")[:_LONGEST_EMAIL], path_of_ours(form.get("next", ""))
    password = Secret(form.get("password", "")[:_LONGEST_PASSWORD])
    try:
        cookie = await _sessions(core).sign_in_to_console(email, password)
    except (WrongSignIn, ShutOut, TooManyFailures, TooManyPasswords) as refused:
        return await _form(request, after=after, email=email, refused=refused)
    answer = going_to(after)
    _set_cookie(answer, request, cookie_name(request), cookie.reveal(), seconds=int(LIFE.total_seconds()))
    return answer


@page(Role.USER, platform=True)
async def sign_out(visit: Visit) -> Response:
    """Ends the session."""
    assert visit.principal.session_id is not None  # a visitor has one
    await _sessions(visit.core).end(visit.organization_id, visit.principal.session_id)
    answer = going_to(SIGN_IN_PATH)
    _set_cookie(answer, visit.request, cookie_name(visit.request), "", seconds=0)
    return answer


ROUTES: Final = (
    Route("/sign-in", ask, methods=["GET"]),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
)


async def _form(
    request: Request, *, after: str, email: str = "", refused: DeniedError | None = None, is_undone: bool = False
) -> Response:
    name = cookie_name(request, _FORM_COOKIE)
    word = request.cookies.get(name) or random_hex(128)
    answer = rendered(
        "sign_in.html",
        status=refused.http_status if refused else 200,
        token=await _token(core_of(request), word),
        email=email,
        after=after,
        refused=refused,
        is_undone=is_undone,
    )
    if isinstance(refused, TooManyFailures):
        answer.headers["Retry-After"] = str(refused.retry_after_seconds)
    _set_cookie(answer, request, name, word, seconds=None)
    return answer


def _set_cookie(answer: Response, request: Request, name: str, value: str, *, seconds: int | None) -> None:
    # Lax, not strict: a link in a chat leads a person who is signed in to the approval. Nothing changes by GET.
    answer.set_cookie(name, value, max_age=seconds, path="/", secure=is_secure(request), httponly=True, samesite="lax")


async def _token(core: Core, word: str) -> str:
    return await form_token(core.keyring, f"sign-in {word}")


def _sessions(core: Core) -> Sessions:
    return Sessions(core.store, core.keyring, core.settings, core.clock)
