"""The one place where errors become MCP results.

`is_error` is true and nothing was stored; the text is ours, and the machine-readable half says code, advice and field.
What the model sent is never repeated: it may hold a number, a key, or somebody's instructions.
"""

import logging

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

from mpesa_mcp.errors import Advice, ConflictError, InputError, InternalFault, MpesaMcpError, NotFoundError

# The standard logger: the redacting chain takes its records too, and it is there before anything heavy is loaded.
log = logging.getLogger(__name__)


# What a refusal's structure looks like, for output schemas.
REFUSAL_SCHEMA: dict[str, object] = {
    "type": "object",
    "description": "Why nothing was done; only in refusals.",
    "properties": {"code": {"type": "string"}, "advice": {"type": "string"}, "message": {"type": "string"}},
    "required": ["code", "advice", "message"],
}


def refusal_of(problem: ToolError, tool: Tool | None) -> CallToolResult:
    """What the model is told about a call that did not become a payment or an answer."""
    cause = problem.__cause__
    if isinstance(cause, ValidationError) and tool is not None:
        return _bad_arguments(cause, tool)
    if isinstance(cause, MpesaMcpError):
        return refused(cause)
    log.error("tool_failed", extra={"tool": tool.name if tool else None}, exc_info=cause or problem)
    return refused(InternalFault("Something went wrong on our side. Read the payment before trying again."))


def refused(error: MpesaMcpError) -> CallToolResult:
    described: dict[str, object] = {"code": error.code, "advice": error.advice.value, "message": error.message}
    for name in ("field", "fields", "payment_id", "retry_after_seconds", "errors"):
        if value := getattr(error, name, None):
            described[name] = value
    if isinstance(error, InternalFault):
        log.error("call_failed", extra={"code": error.code}, exc_info=error)
    text = error.message
    if isinstance(error, InputError | ConflictError | NotFoundError) and "othing was" not in text:
        text += " Nothing was sent."
    return CallToolResult(
        is_error=True,
        content=[TextContent(type="text", text=text)],
        structured_content={"error": described},
    )


def _bad_arguments(invalid: ValidationError, tool: Tool) -> CallToolResult:
    """One sentence for each refused argument: what is accepted, never what was sent."""
    properties: dict[str, dict[str, object]] = tool.parameters.get("properties", {})
    sentences: dict[str, str] = {}
    for error in invalid.errors(include_input=False, include_context=False, include_url=False):
        name = str(error["loc"][0]) if error["loc"] else ""
        if name not in properties:
            sentences[""] = f"{tool.name} takes only these arguments: {', '.join(properties)}."
        elif error["type"] == "missing":
            sentences[name] = f"{name} is required. {properties[name].get('description', '')}"
        else:
            sentences[name] = f"{name} is not acceptable. {properties[name].get('description', '')}"
    fields = [name for name in sentences if name]
    described = {
        "code": InputError.code,
        "advice": Advice.FIX_INPUT.value,
        "message": " ".join(sentences.values()),
        "fields": fields,
    }
    if len(fields) == 1:
        described["field"] = fields[0]
    return CallToolResult(
        is_error=True,
        content=[TextContent(type="text", text=f"{described['message']} Nothing was sent.")],
        structured_content={"error": described},
    )
