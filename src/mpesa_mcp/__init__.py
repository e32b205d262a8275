"""An MCP server through which AI assistants operate M-Pesa for many organizations.

Each folder is one business noun; `docs/` tells how they fit together.
Importing this package imports nothing else, so that a desktop client sees its first answer quickly.
"""

__version__ = "0.1.0"
