"""Safaricom's Daraja: requests out, answers and callbacks in, and what each of them proves.

`conclusions`, `codes`, `results`, `redaction` and what they read with are pure. `client` is the only module that
sends anything; it never decides a payment and never repeats a call, save once after a token refusal.
"""
