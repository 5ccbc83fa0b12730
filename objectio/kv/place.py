"""Where the files of an engine are, and whether they still are.

A process keeps the files that it has open, whoever takes their directory away: nothing fails until it
ends, and then they are gone. So whoever watches over it has to look.
"""

from __future__ import annotations

from pathlib import Path

from objectio.abc.admin import Finding


class Place:
    """The directory as it is now, after the engine was opened. One that is not there, or empty, is none
    of the engine's: then nothing is ever wrong."""

    def __init__(self, directory: Path, *, journaled: bool) -> None:
        self._directory = directory
        self._journaled = journaled
        self._seen = _look(directory)

    def findings(self) -> list[Finding]:
        """Blocking."""
        if self._seen is None or _look(self._directory) == self._seen:
            return []
        action = "Put it back as it was, if it was moved, while this process runs."
        if self._journaled:
            meaning = (
                "The process goes on with the files that it has open, but they are gone when it ends. "
                "The journal on the disks has what is in them."
            )
            action += (
                " Else see that the journal is whole (objectio meta status), stop the process, and make "
                "the metadata anew: objectio meta rebuild"
            )
        else:
            meaning = (
                "The process goes on with the files that it has open, and all metadata are lost when it "
                "ends: there is no journal of them."
            )
            action += " Else copy all objects to another store before it ends."
        return [
            Finding(
                severity="critical",
                what=f"The directory of the metadata, {self._directory}, was taken away or emptied.",
                meaning=meaning,
                action=action,
            )
        ]


def _look(directory: Path) -> tuple[int, int] | None:
    """Which directory it is; None if there is none, or nothing in it."""
    try:
        found = directory.stat()
        return (found.st_dev, found.st_ino) if any(directory.iterdir()) else None
    except OSError:
        return None
