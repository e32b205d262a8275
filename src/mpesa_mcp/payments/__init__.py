"""Payments: one movement of money asked for, from the request to its final status.

`states` says which status may follow which; `intake` accepts a request, `dispatch` is the only code that sends money,
`outcomes` the only code that changes a status after that, `reconciliation` asks about whatever stays silent.
"""
