"""Credentials: an organization's shortcodes and their Daraja secrets, sealed at rest.

`vault` seals and opens, `data_keys` keeps each organization's key, `shortcodes` sets, lists, chooses and opens,
`choice` picks the one a payment uses, `given` reads what an operator gives, `check` asks Daraja whether keys are good.
"""
