"""The composition: what a process is made of, and how its parts are started and stopped together.

Nothing here decides anything about payments.
"""
