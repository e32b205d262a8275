"""Identity: organizations, the API keys of their programs, and the Principal every request acts as.

`principal` imports no database library, because it is loaded before a desktop client has shaken hands.
"""
