"""The few web pages a person needs: what waits for a decision, what happened to a payment, rules and keys.

Rendered here, with Jinja2; htmx swaps parts of a page, and every page works without it. The pages call the functions
that the API calls, and decide nothing themselves.
"""
