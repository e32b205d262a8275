"""What a client carries from a question to its answer: sealed by a key of the installation, the same in every process.

The SDK binds it to the tool, the arguments, the caller and a time; here it is only sealed and opened. A client that
shows it again repeats an answer, and finds the payment that the first answer has made.
"""

import base64
import binascii
from typing import Final

from mcp.server.mcpserver import RequestStateSecurity
from mcp.server.request_state import InvalidRequestState

from mpesa_mcp.store.keyring import MCP_REQUEST_STATES, Keyring
from mpesa_mcp.values.sealing import SealBroken, SealingKey

# How long a person may think about a question.
SECONDS_TO_ANSWER: Final = 600.0
_CONTEXT: Final = "a request state of MCP"


class SealedStates:
    """The SDK's codec. It seals at once, so the key is opened before anything is served."""

    def __init__(self) -> None:
        self._key: SealingKey | None = None

    async def open(self, keyring: Keyring) -> None:
        self._key = await keyring.platform_key(MCP_REQUEST_STATES)

    @property
    def security(self) -> RequestStateSecurity:
        return RequestStateSecurity(codec=self, ttl=SECONDS_TO_ANSWER)

    def seal(self, payload: bytes) -> str:
        return base64.urlsafe_b64encode(self._opened.seal(payload, _CONTEXT)).decode()

    def unseal(self, token: str) -> bytes:
        """Raises InvalidRequestState."""
        try:
            return self._opened.open(base64.b64decode(token, altchars=b"-_", validate=True), _CONTEXT)
        except (SealBroken, binascii.Error, ValueError) as broken:
            raise InvalidRequestState("not sealed here") from broken

    @property
    def _opened(self) -> SealingKey:
        if self._key is None:
            raise RuntimeError("the key of request states is opened when serving begins")
        return self._key
