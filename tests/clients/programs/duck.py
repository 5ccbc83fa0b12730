"""DuckDB with its own S3 client, httpfs: partitioned writes, globs, projected reads by ranges."""

from pathlib import Path

import duckdb
import duckdb_extension_httpfs
from _where import ACCESS_KEY, BUCKET, CA_FILE, HOST, REGION, ROWS, SECRET_KEY, TLS, row_sum

[extension] = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
db = duckdb.connect()
db.execute(f"LOAD '{extension}'")
if CA_FILE:
    db.execute(f"SET ca_cert_file = '{CA_FILE}'")
    db.execute("SET enable_server_cert_verification = true")
db.execute(
    f"CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY}', SECRET '{SECRET_KEY}', REGION '{REGION}', "
    f"ENDPOINT '{HOST}', URL_STYLE 'path', USE_SSL {str(TLS).lower()})"
)
db.execute(f"CREATE TABLE t AS SELECT range AS n, range % 5 AS part FROM range({ROWS})")
db.execute(f"COPY t TO 's3://{BUCKET}/parts' (FORMAT parquet, PARTITION_BY part)")
where = f"read_parquet('s3://{BUCKET}/parts/*/*.parquet', hive_partitioning = true)"
assert db.execute(f"SELECT count(*), sum(n) FROM {where}").fetchone() == (ROWS, row_sum())
[(few,)] = db.execute(f"SELECT sum(n) FROM {where} WHERE part = 2").fetchall()
assert few == sum(range(2, ROWS, 5))
assert len(db.execute(f"SELECT * FROM glob('s3://{BUCKET}/parts/**')").fetchall()) == 5

db.execute(f"COPY t TO 's3://{BUCKET}/t.csv' (HEADER)")
csv = f"read_csv('s3://{BUCKET}/t.csv')"
assert db.execute(f"SELECT sum(n) FROM {csv}").fetchone() == (row_sum(),)

# Some megabytes, incompressible, go up in parts.
db.execute(
    "CREATE TABLE big AS SELECT range AS n, md5(range::VARCHAR) || md5((-range)::VARCHAR) AS h "
    "FROM range(400000)"
)
db.execute(f"COPY big TO 's3://{BUCKET}/big.parquet' (ROW_GROUP_SIZE 50000)")
big = f"read_parquet('s3://{BUCKET}/big.parquet')"
asked = f"SELECT h FROM {big} WHERE n = 321321"
assert db.execute(asked).fetchall() == db.execute("SELECT h FROM big WHERE n = 321321").fetchall()
