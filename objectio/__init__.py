"""ObjectIO: software-defined storage as a framework. Importing this imports nothing heavy."""

from objectio.hookspecs.marker import hookimpl

__version__ = "26.11.0"

__all__ = ["__version__", "hookimpl"]
