"""Pages out of templates, and the headers every answer of the console carries.

The policy lets a page load, reach and submit to nothing but this server, and run no script that stands in it.
"""

import re
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from mpesa_mcp.console import words
from mpesa_mcp.values import EAT, Kes

_NO_CENTS: Final = re.compile(r"\b(KES [\d,]+)\.00\b")
FILES: Final = Path(__file__).parent / "files"
ASSETS: Final = ("console.css", "console.js", "htmx.min.js", "icon.svg", "invitation.js")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer: browsers would then send `Origin: null` with a form.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def rendered(template: str, *, status: int = 200, **context: Any) -> Response:
    """A page. What a template names must be there; what it shows is escaped."""
    html = _TEMPLATES.get_template(template).render(**context)
    return Response(html, status, media_type="text/html", headers=HEADERS)


def going_to(path: str) -> Response:
    """Sends the browser to another page, with a GET."""
    return RedirectResponse(path, 303, headers=HEADERS)


def unchanged() -> Response:
    """Nothing to swap: what the page shows is still so."""
    return Response(status_code=204, headers=HEADERS)


def _money(amount: Kes) -> str:
    """KES 25,000 or KES 25,000.50."""
    whole, _, cents = str(amount).partition(".")
    return f"KES {int(whole):,}" + (f".{cents}" if cents != "00" else "")


def _plain(sentence: str) -> str:
    """A sentence with its amounts as pages write them: without the cents that are none."""
    return _NO_CENTS.sub(r"\1", sentence)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(EAT):%d %b %Y, %H:%M}"


def _address(name: str) -> str:
    """Where a file of ours is; another one after it has changed, since browsers keep it."""
    return f"/console/{name}?{sha256((FILES / name).read_bytes()).hexdigest()[:12]}"


_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"money": _money, "moment": _moment, "phone": words.phone, "plain": _plain, "word": words.word}
_TEMPLATES.globals |= {
    "file": {name: _address(name) for name in ASSETS},
    "words": words,
    "visit": None,
}
