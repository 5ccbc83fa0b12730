"""The kernel's own sinks for events: see `objectio.abc.sinks`."""
