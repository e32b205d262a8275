"""A process is killed with SIGKILL at every point, on both sides; others recover, and the books agree.

`make crash` plays every story at every point on both databases; here each point has one.
"""

import pytest

from .cases import EVERY, Case, ends_unknown, is_short, is_short_on_postgresql
from .conftest import Crash
from .verdicts import check, unknown_payments

_SLOW = pytest.mark.slow


@pytest.mark.sqlite
@pytest.mark.parametrize("case", [pytest.param(case, marks=() if is_short(case) else _SLOW) for case in EVERY], ids=str)
def test_after_a_crash_rows_and_ledger_agree(crash: Crash, case: Case) -> None:
    _play(crash, case)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if is_short_on_postgresql(case) else _SLOW) for case in EVERY], ids=str
)
def test_after_a_crash_rows_and_ledger_agree_on_postgresql(crash: Crash, case: Case) -> None:
    _play(crash, case)


def _play(crash: Crash, case: Case) -> None:
    facts = crash(case)
    check(facts)
    # Exactly where nobody can know: no more payments are left to a person than must be.
    assert bool(unknown_payments(facts)) == ends_unknown(case, facts)
