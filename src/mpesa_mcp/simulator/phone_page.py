"""`/phone`: the customers' phones as web pages; with `Accept: application/json`, as JSON.

A page looks every two seconds whether there is anything new, until there is a prompt; then it stays, so that nobody
loses the button under their finger. That is its only script: without it, the page works and has a link to look again.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mpesa_mcp.simulator.payments import Payment, State
from mpesa_mcp.simulator.phones import Phone
from mpesa_mcp.simulator.requests import is_phone
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.stk import answer_prompt
from mpesa_mcp.values import EAT

PAGES = Path(__file__).parent / "pages"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers would then send `Origin: null` with the form, which is refused.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PhonePage:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._templates = Environment(loader=FileSystemLoader(PAGES), autoescape=True)

    def routes(self) -> list[Route]:
        return [
            Route("/phone", self.list_phones, methods=["GET"]),
            Route("/phone/phone.css", self.file, methods=["GET"]),
            Route("/phone/phone.js", self.file, methods=["GET"]),
            Route("/phone/{msisdn}", self.show, methods=["GET"]),
            Route("/phone/{msisdn}/{checkout_request_id}/pay", self.pay, methods=["POST"]),
            Route("/phone/{msisdn}/{checkout_request_id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def list_phones(self, request: Request) -> Response:
        phones = self._simulation.phones.seen()
        if _wants_json(request):
            return JSONResponse([phone.msisdn for phone in phones], headers=HEADERS)
        return self._page("phones.html", phones=phones[:100], count=len(phones))

    async def file(self, request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return FileResponse(PAGES / name, headers={"X-Content-Type-Options": "nosniff"})

    async def show(self, request: Request) -> Response:
        msisdn = request.path_params["msisdn"]
        if not is_phone(msisdn):
            return self._not_found(request)
        phone = self._simulation.phones.look(msisdn)
        if _wants_json(request):
            return JSONResponse(_phone_as_json(phone), headers=HEADERS)
        now = self._simulation.now().astimezone(EAT)
        return self._page("phone.html", phone=phone, prompts=phone.prompts, now=now, EAT=EAT)

    async def pay(self, request: Request) -> Response:
        return await self._decide(request, pays=True)

    async def cancel(self, request: Request) -> Response:
        return await self._decide(request, pays=False)

    async def _decide(self, request: Request, *, pays: bool) -> Response:
        msisdn = request.path_params["msisdn"]
        payment = self._simulation.phones.look(msisdn).asked.get(request.path_params["checkout_request_id"])
        if payment is None:
            return self._not_found(request)
        was_open = payment.state is State.UNDECIDED
        if was_open:
            await answer_prompt(self._simulation, payment, pays=pays)
        if not _wants_json(request):
            return RedirectResponse(f"/phone/{msisdn}", 303, headers=HEADERS)
        body = {
            "checkout_request_id": payment.checkout_request_id,
            "status": "paid" if payment.state is State.SUCCEEDED else "cancelled",
            "receipt": payment.receipt,
        }
        return JSONResponse(body, 200 if was_open else 409, headers=HEADERS)

    def _not_found(self, request: Request) -> Response:
        if _wants_json(request):
            return JSONResponse({"error": "No such phone or prompt."}, 404, headers=HEADERS)
        return self._page("phones.html", status=404, phones=self._simulation.phones.seen()[:100], missing=True)

    def _page(self, template: str, *, status: int = 200, **context: object) -> Response:
        html = self._templates.get_template(template).render(**context)
        return Response(html, status, media_type="text/html", headers=HEADERS)


def _wants_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept


def _phone_as_json(phone: Phone) -> dict[str, object]:
    return {
        "msisdn": phone.msisdn,
        "prompts": [_prompt_as_json(payment) for payment in phone.prompts],
        "messages": [message.as_json() for message in phone.messages],
    }


def _prompt_as_json(payment: Payment) -> dict[str, object]:
    return {
        "checkout_request_id": payment.checkout_request_id,
        "shortcode": payment.shortcode,
        "amount": payment.amount,
        "account_reference": payment.reference,
        "description": payment.description,
        "asked_at": payment.accepted_at.isoformat(),
        "text": f"Pay KES {payment.amount:,} to shortcode {payment.shortcode}, account {payment.reference}?",
    }
