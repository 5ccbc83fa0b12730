"""polars: writes and lazy scans by its own S3 client."""

import polars as pl
from _where import ACCESS_KEY, BUCKET, ENDPOINT, REGION, ROWS, SECRET_KEY, TLS, row_sum

options = {
    "aws_access_key_id": ACCESS_KEY,
    "aws_secret_access_key": SECRET_KEY,
    "aws_region": REGION,
    "aws_endpoint_url": ENDPOINT,
    "aws_allow_http": str(not TLS).lower(),
}
frame = pl.DataFrame({"n": range(ROWS), "text": [f"row {number}" for number in range(ROWS)]})
for number in range(3):
    frame.filter(pl.col("n") % 3 == number).write_parquet(
        f"s3://{BUCKET}/f/{number}.parquet", storage_options=options, row_group_size=1000
    )
lazy = pl.scan_parquet(f"s3://{BUCKET}/f/*.parquet", storage_options=options)
assert lazy.select(pl.col("n").sum()).collect().item() == row_sum()
assert lazy.filter(pl.col("n") == 777).collect()["text"].to_list() == ["row 777"]
lazy.sort("n").sink_csv(f"s3://{BUCKET}/all.csv", storage_options=options)
back = pl.scan_csv(f"s3://{BUCKET}/all.csv", storage_options=options).collect()
assert back.equals(frame)
