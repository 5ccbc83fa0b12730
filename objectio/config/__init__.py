"""One typed configuration file."""
