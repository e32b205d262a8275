"""REST for people and programs, under `/api/v1`: one file for each noun, each a router of short routes.

How a route is written (`auth.py`, `payments.py` are examples):
- `@allow(...)` under the router's decorator says who may call it; without it the program does not start, and a row in
  `tests/api/permissions.py` must say what it answers to everybody else. That is checked before a body is looked at.
  `act=Act.PAY_OUT` says that it lets money out.
- `call: Call` is who calls, and for which organization: the token's own, or the one in the path `{organization_id}`,
  which only a super_admin may choose (`platform=True`); to everybody else any other id than their own is not found.
- A body is a `Body` model: unknown fields are refused. Answers are `Answer` models, made from records; lists are
  `Page`s by cursor. Amounts are decimal strings, times UTC.
- A route makes one call into a room below and renders; it has no queries and no rules. What that raises becomes an
  answer in `errors.py`, and nowhere else.
"""
