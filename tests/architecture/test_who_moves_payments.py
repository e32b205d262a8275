"""Can it pay twice? Two files change the status of a payment that is stored, and one sends; whoever reads them has read
them all.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PAYMENTS = Path(__file__).parents[2] / "src" / "mpesa_mcp"
MAY = {"payments/dispatch.py", "payments/outcomes.py"}
# A row that is not stored yet is given its first status here.
FIRST = {"payments/spending.py"}


def changes_of_status(tree: ast.AST) -> Iterator[int]:
    """The lines of `update(Payment) … .values(status=…)`, of its values elsewhere if a status is among them, of
    `session.change_many(Payment, …)`, and of `payment.status = …`.
    """
    names_status = any(
        isinstance(node, ast.Dict) and any(isinstance(key, ast.Constant) and key.value == "status" for key in node.keys)
        for node in ast.walk(tree)
    )
    said = {"status", None} if names_status else {"status"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node).startswith("session.change_many(Payment,"):
            yield node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            is_of_payments = "update(Payment)" in ast.unparse(node.func.value)
            if is_of_payments and any(keyword.arg in said for keyword in node.keywords):
                yield node.lineno
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "payment.status" for target in node.targets):
            yield node.lineno


def test_two_files_change_the_status_of_a_payment() -> None:
    found: dict[str, list[int]] = {}
    for path in PAYMENTS.rglob("*.py"):
        text = path.read_text()
        # Whatever changes it names it.
        if "status" in text and (lines := list(changes_of_status(ast.parse(text)))):
            found[str(path.relative_to(PAYMENTS))] = lines
    assert set(found) == MAY | FIRST, found


def test_one_file_sends_money() -> None:
    sends = {".stk_push(", ".b2c(", ".reversal("}
    found = {
        str(path.relative_to(PAYMENTS))
        for path in PAYMENTS.rglob("*.py")
        if "simulator" not in path.parts and any(call in path.read_text() for call in sends)
    }
    assert found == {"payments/dispatch.py"}
