"""Where the server is: what every program here is told by its environment."""

import os

ENDPOINT = os.environ["CLIENT_ENDPOINT"]
HOST = ENDPOINT.partition("://")[2]
TLS = ENDPOINT.startswith("https:")
ACCESS_KEY = os.environ["CLIENT_ACCESS_KEY"]
SECRET_KEY = os.environ["CLIENT_SECRET_KEY"]
BUCKET = os.environ["CLIENT_BUCKET"]
CA_FILE = os.environ.get("CLIENT_CA_FILE", "")
REGION = "us-east-1"

ROWS = 20_000


def row_sum():
    """Of a column with the numbers below ROWS."""
    return ROWS * (ROWS - 1) // 2
