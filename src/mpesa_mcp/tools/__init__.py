"""The MCP server: tools, what they say, and the caller the model cannot see.

Nothing here imports the database or the web stack while it is loaded, so that a desktop client's handshake is quick.
"""
