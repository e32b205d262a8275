"""`mpesa-mcp`: one executable. Commands load what they need when they run, so that the quick ones stay quick."""

from mpesa_mcp.cli.main import main

__all__ = ["main"]
