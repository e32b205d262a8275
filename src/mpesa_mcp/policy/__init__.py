"""What an organization lets its callers do with its money: rules, what was spent under them, and who may change them.

Rules are data that people set and no caller can; deciding is pure (`rules`). Nothing here sends or stores a payment.
"""
