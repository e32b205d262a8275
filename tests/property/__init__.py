"""The whole way of a payment under anything that can happen, in any order."""
