"""Metadata in LevelDB."""
