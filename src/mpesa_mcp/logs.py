"""Structured logs on stderr, one JSON object a line, with secrets and phone numbers gone.

stdout belongs to the MCP protocol. Redaction is the last processor, so it also sees formatted exceptions.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

_SECRET_NAMES = re.compile(
    r"password|passkey|secret|credential|authorization|token|api_key|consumer_key|master_key|cookie", re.IGNORECASE
)
_KEY = re.compile(r"mpk_(sim|test|live)_\w+")
# Who is told of each text that seems to hold an API key, from whichever thread logs it.
_watchers: list[Callable[[str], None]] = []
_PATTERNS = (
    (re.compile(r"/cb/[^\s\"'?#]+"), "/cb/…"),
    (_KEY, r"mpk_\1_…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 …"),
    (re.compile(r"(?i)(\"?(?:SecurityCredential|Password|access_token)\"?\s*[:=]\s*\"?)[^\"\s,}]+"), r"\1…"),
    # A CheckoutRequestID ends with the phone number (quirk 23); a bare number is one.
    (re.compile(r"(ws_CO_[\w]{6})\w+"), r"\1…"),
    (re.compile(r"(?<![\w.])(\+?254|0)([17])\d{5}(\d{3})(?!\w)"), r"\1\2*****\3"),
)


def configure_logs(level: str = "INFO") -> None:
    """Sends our own log lines and those of libraries to stderr through one redacting chain."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    structlog.configure(
        # First of all: what is not written need not be redacted.
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [stderr]
    root.setLevel(level)
    # The HTTP client logs full addresses, the server its access lines, both unredacted paths: ours say what is needed.
    for chatty in ("alembic", "httpx2", "httpcore2", "uvicorn", "aiosqlite", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces values under secret names, and secrets and phone numbers inside any text."""
    for name, value in event.items():
        event[name] = _withheld(value) if _SECRET_NAMES.search(name) else _redacted(value)
    return event


@contextmanager
def watching_for_keys(seen: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, `seen` is given each text with something like an API key in it, before it is redacted."""
    _watchers.append(seen)
    try:
        yield
    finally:
        _watchers.remove(seen)


def redact_text(text: str) -> str:
    if _watchers and _KEY.search(text):
        for seen in _watchers:
            seen(text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _withheld(value: Any) -> str:
    """Nothing of it; but a key in it is seen."""
    redact_text(str(value))
    return "…"


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact_text(value)
        case dict():
            return {
                redact_text(str(k)): _withheld(v) if _SECRET_NAMES.search(str(k)) else _redacted(v)
                for k, v in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_redacted(item) for item in value]
        case int() if not isinstance(value, bool):
            # Daraja writes phone numbers as numbers, too.
            return value if redact_text(text := str(value)) == text else redact_text(text)
        case bool() | float() | None:
            return value
        case _:
            return redact_text(str(value))
