"""Bulk payouts: a file of rows, checked whole, approved once, paid row by row and explained row by row.

A row becomes an ordinary payment; everything that moves money stays in `dispatch`, everything that settles in
`outcomes`. Nothing here calls Daraja.
"""
