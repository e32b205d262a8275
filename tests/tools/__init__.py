"""The tools as a model sees them, through MCP clients."""
