"""What the server publishes, kept as files: a change is a reviewed difference."""
