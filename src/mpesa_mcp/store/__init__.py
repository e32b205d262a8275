"""The store: engines, tables' bases, the organization-bound session, migrations, keys, wake-ups.

`open_store` gives the one Store of the process. Everything that reads or writes an organization's rows goes through
`Store.session(organization_id)` or `Store.reading(organization_id)`; `crossings` holds the few functions that do not.
"""
