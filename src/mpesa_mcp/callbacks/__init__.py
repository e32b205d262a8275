"""Callbacks: a small sidecar that stores what Safaricom posts, and the inbox that applies it.

The sidecar decides nothing and answers at once. The inbox trusts nothing but what agrees with what we asked for.
"""
