"""Billing: plans, subscriptions and what they allow, usage, rate limits. It knows nothing of payments but their words.

`states` is pure; `terms` remembers what an organization may do, so that a call costs no read of its own.
"""
