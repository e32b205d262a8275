"""A Safaricom Daraja that runs on this machine, for developing and testing without an account or the internet.

It shares no code with the client: the two agree only through Daraja's wire shapes.
"""
