"""The role that keeps the store in order."""
