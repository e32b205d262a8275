"""`mpesa-mcp demo`: an agent's session from end to end, on this machine alone.

A real MCP client speaks HTTP to the real server; callbacks come to the real sidecar; Daraja is the simulator.
"""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpesa_mcp.cli.output import JsonOption, refusals

if TYPE_CHECKING:
    from mpesa_mcp.app.local import LocalPlatform

KEEP = "Stay up afterwards and print a client configuration."
CUSTOMER, SUPPLIER = "0712 345 601", "0722 000 702"


def demo(keep: Annotated[bool, typer.Option("--keep", help=KEEP)] = False, as_json: JsonOption = False) -> None:
    """Watch an assistant collect, pay out, read the balance, reverse and report; needs no account."""
    from mpesa_mcp.logs import configure_logs

    configure_logs("ERROR")
    with refusals():
        ok = asyncio.run(_demo(keep=keep, as_json=as_json))
    raise typer.Exit(0 if ok else 1)


async def _demo(*, keep: bool, as_json: bool) -> bool:
    from mpesa_mcp.app.http import until_stopped
    from mpesa_mcp.app.local import local_platform

    if not as_json:
        typer.echo("Starting the server, an MCP client, and a simulator of Daraja (Safaricom's M-PESA API) ...")
        typer.echo("The simulated organization begins with KES 10,000,000 in its Utility Account.")
    async with local_platform() as platform:
        session = AgentSession(platform, quiet=as_json)
        ok = await session.run()
        if as_json:
            typer.echo(json.dumps({"ok": ok, "steps": session.steps}))
        else:
            typer.echo(
                "\nEverything agrees with the simulator's ledger." if ok else "\nSomething went wrong; see above."
            )
        if keep:
            _print_configuration(platform)
            await until_stopped()
    return ok


class AgentSession:
    """What an assistant would do in five calls, told step by step."""

    def __init__(self, platform: "LocalPlatform", *, quiet: bool) -> None:
        self._platform = platform
        self._quiet = quiet
        self.steps: list[dict[str, Any]] = []

    async def run(self) -> bool:
        import httpx2
        from mcp.client import Client
        from mcp.client.streamable_http import streamable_http_client

        from mpesa_mcp.values import SystemClock, eat_today

        headers = {"Authorization": f"Bearer {self._platform.key.reveal()}"}
        timeout = httpx2.Timeout(10, read=90)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
            Client(streamable_http_client(f"{self._platform.url}/mcp", http_client=http)) as client,
            httpx2.AsyncClient(base_url=self._platform.simulator_url) as simulator,
        ):
            self._client, self._simulator = client, simulator
            await self._say("Collect KES 1,500 from a customer for invoice INV-1042.")
            collected = await self._call("stk_push", phone=CUSTOMER, amount=1500, reference="INV-1042")
            await self._show_phone(CUSTOMER)
            await self._say("Pay the tomato supplier KES 2,500.")
            paid = await self._call(
                "b2c_payment", phone=SUPPLIER, amount=2500, idempotency_key="supplier-77", remarks="Tomatoes invoice 77"
            )
            await self._show_phone(SUPPLIER)
            await self._say("What is left in the account?")
            balance = await self._call("check_balance")
            await self._say("The customer ordered twice. Give the KES 1,500 back.")
            reversal = await self._call(
                "reverse",
                receipt=collected.get("receipt") or "",
                reason="Ordered twice",
                idempotency_key="refund-1042",
            )
            await self._show_phone(CUSTOMER)
            await self._say("What happened today?")
            today = eat_today(SystemClock()).isoformat()
            report = await self._call("transaction_report", from_date=today, to_date=today, group_by="kind")
            agrees = await self._agrees_with_ledger(report)
        payments = [collected, paid, reversal]
        return agrees and bool(balance.get("accounts")) and all(each.get("status") == "succeeded" for each in payments)

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        start = asyncio.get_running_loop().time()
        result = await self._client.call_tool(tool, arguments)
        seconds = round(asyncio.get_running_loop().time() - start, 3)
        structured: dict[str, Any] = result.structured_content or {}
        self.steps.append({"tool": tool, "result": structured, "seconds": seconds})
        if not self._quiet:
            shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            typer.echo(f"  tool   {tool}({shown})")
            text = " ".join(getattr(part, "text", "") for part in result.content)
            for line in text.splitlines():
                typer.echo(f"  result {line}")
            typer.echo(f"         {seconds:.1f} s")
        return structured

    async def _say(self, request: str) -> None:
        if not self._quiet:
            typer.echo(f"\nUser: {request}")

    async def _show_phone(self, phone: str) -> None:
        """What the simulated phone showed last."""
        from mpesa_mcp.values import Msisdn

        if self._quiet:
            return
        page = await self._simulator.get(f"/phone/{Msisdn.parse(phone).digits}", headers={"Accept": "application/json"})
        messages = page.json()["messages"]
        if messages:
            typer.echo(f"  phone  {messages[0]['text']}")

    async def _agrees_with_ledger(self, report: dict[str, Any]) -> bool:
        """Whether the report's totals are what the simulator says really moved."""
        ledger = (await self._simulator.get("/_sim/ledger")).json()
        moved = {"stk": 0, "b2c": 0, "reversal": 0}
        for movement in ledger:
            moved[movement["kind"]] += movement["amount"]
        totals = report.get("totals", {})
        return {
            "stk": totals.get("collected"),
            "b2c": totals.get("paid_out"),
            "reversal": totals.get("reversed"),
        } == {kind: f"{amount}.00" for kind, amount in moved.items()}


def _print_configuration(platform: "LocalPlatform") -> None:
    """A client configuration for the running demo. The key works for this demo alone and is gone when it stops."""
    configuration = {
        "mcpServers": {
            "mpesa-demo": {
                "type": "http",
                "url": f"{platform.url}/mcp",
                "headers": {"Authorization": f"Bearer {platform.key.reveal()}"},
            }
        }
    }
    typer.echo(f"\nStill running: {platform.url}/mcp, phones at {platform.simulator_url}/phone. Stop with Ctrl-C.")
    typer.echo(json.dumps(configuration, indent=2))
