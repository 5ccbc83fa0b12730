"""What all requests about one part of an upload have: its number and the upload's id."""

from __future__ import annotations

from objectio import limits
from objectio_api_s3.errors import refuse
from objectio_api_s3.request import Operation


def upload_id(op: Operation) -> str:
    return op.query["uploadId"].decode("utf-8", "replace")


def parse_number(op: Operation) -> int:
    number = op.count("partNumber", 0)
    if not 1 <= number <= limits.PART_NUMBER_MAX:
        refuse(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {limits.PART_NUMBER_MAX}, inclusive",
            ArgumentName="partNumber",
        )
    return number
