"""The administration commands as a person runs them, on an installation of their own."""

import base64
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mpesa_mcp.cli.main import app

MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"
KEYS = {"consumer_key": "consumer-key-of-the-app", "consumer_secret": "consumer-secret-of-the-app"}
SECRETS = {
    **KEYS,
    "passkey": "passkey-of-the-shortcode",
    "initiator_name": "testapi",
    "initiator_password": "Safaricom999!*!",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Runs `mpesa-mcp` with these variables."""

    data_dir: Path
    variables: dict[str, str]

    def run(self, *words: str, typed: str | None = None, **variables: str) -> Outcome:
        names = {f"MPESA_MCP_{name}": value for name, value in {**self.variables, **variables}.items()}
        result = CliRunner().invoke(app, words, input=typed, env=names)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def ask(self, *words: str, typed: str | None = None, **variables: str) -> Any:
        """Runs a command that must succeed, with --json; gives its value."""
        outcome = self.run(*words, "--json", typed=typed, **variables)
        assert outcome.exit_code == 0, outcome.stderr
        return outcome.value

    def set_credentials(self, environment: str, shortcode: str, secrets: dict[str, str], **variables: str) -> Any:
        options = ("--environment", environment, "--shortcode", shortcode, "--type", "paybill", "--file", "-")
        return self.ask("credentials", "set", "--org", "acme", *options, typed=json.dumps(secrets), **variables)


@pytest.fixture
def terminal(bare_terminal: Terminal, migrated: Path) -> Terminal:
    """A person's terminal on an installation whose database is there, and nothing else."""
    bare_terminal.data_dir.mkdir(mode=0o700)
    shutil.copy(migrated, bare_terminal.data_dir)  # with its mode
    return bare_terminal


@pytest.fixture
def bare_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal on a machine where nothing was done yet."""
    for name in ("API_KEY", "DATABASE_URL", "DATABASE_OWNER_URL", "PUBLIC_URL", "ENVIRONMENT"):
        monkeypatch.delenv(f"MPESA_MCP_{name}", raising=False)
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield Terminal(tmp_path / "data", {"DATA_DIR": str(tmp_path / "data"), "MASTER_KEY": MASTER_KEY})
    # The commands send logs to the stderr of their run, which is closed by now.
    logging.getLogger().handlers[:] = before[0]
    logging.getLogger().setLevel(before[1])


class _Daraja(BaseHTTPRequestHandler):
    """Gives a token for the right pair and an empty 400 for every other (quirk 55)."""

    def do_GET(self) -> None:
        good = base64.b64encode(":".join(KEYS.values()).encode()).decode()
        body = b'{"access_token": "a-token-of-twenty-eight-bytes", "expires_in": "3599"}'
        right = self.headers["Authorization"] == f"Basic {good}"
        self.send_response(200 if right else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if right else 0))
        self.end_headers()
        if right:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        return None


@pytest.fixture
def daraja() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Daraja)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
