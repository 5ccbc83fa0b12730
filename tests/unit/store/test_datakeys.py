"""Data keys: what is kept of them, who may have them again, and the default of a bucket."""

from __future__ import annotations

import pytest

from objectio.abc.objects import Encryption
from objectio.errors import AccessDenied, InvalidRequest, NotFound, Unavailable
from objectio.kms.keyring import change_ring, with_key, with_new_version
from objectio.kms.local import DRIVER, LocalKmsConfig
from objectio.meta.records import ObjectRecord, decode_object, encode
from objectio.model.bucket import ENCRYPTION, DefaultEncryption, encode_document
from objectio.store.datakeys import DataKeys, default_encryption
from objectio.testing.context import make_context

BUCKET, KEY = b"bucket-1", b"some/\xffkey"
MINE, OTHER = b"m" * 32, b"o" * 32
CUSTOMER = Encryption(method="SSE-C", customer_key=MINE)
PLAIN = b"what is sealed"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "test" / "keyring.json"


@pytest.fixture
async def kms(tmp_path, path):
    kms = DRIVER.open(LocalKmsConfig(), make_context(tmp_path))
    await kms.start(None)
    change_ring(path, lambda ring: with_key(ring, "k1"))
    return kms


@pytest.fixture
def keys(kms):
    return DataKeys(kms)


def same(one, two):
    """Whether two ciphers have the same key."""
    sealed = one.blob(b"b", len(PLAIN)).seal(0, memoryview(PLAIN))
    opened = bytearray(len(PLAIN))
    two.blob(b"b", len(PLAIN)).open(0, sealed, memoryview(opened))
    return opened == PLAIN


def stored(record):
    """As it comes back from an object's row."""
    row = ObjectRecord(0, "", 0, "", "", "", "", "", {}, {}, {}, [], [], encryption=record)
    return decode_object(encode(row)).encryption


@pytest.mark.parametrize(
    "wanted",
    [
        CUSTOMER,
        Encryption(method="AES256"),
        Encryption(method="aws:kms"),
        Encryption(method="aws:kms", key_id="k1", context={"a": "b"}, bucket_key=True),
        Encryption(method="aws:kms:dsse", key_id="arn:aws:kms:us-east-1:1:key/k1"),
    ],
)
async def test_a_data_key_is_had_again_from_what_was_kept(keys, wanted):
    record, cipher = await keys.make(wanted, BUCKET, KEY)
    customer = wanted.customer_key or None
    again = await keys.open(stored(record), BUCKET, KEY, customer)
    assert same(cipher, again)
    assert again.layers == (2 if wanted.method == "aws:kms:dsse" else 1)
    keys.check(record, BUCKET, KEY, customer)
    info = record.info()
    assert (info.method, info.bucket_key) == (wanted.method, wanted.bucket_key)
    assert info.key_id == (wanted.key_id or ("" if customer else "default"))


async def test_each_version_has_a_key_of_its_own(keys):
    for wanted in (CUSTOMER, Encryption(method="AES256")):
        made = [await keys.make(wanted, BUCKET, KEY) for _ in range(2)]
        assert made[0][0].wrapped != made[1][0].wrapped
        with pytest.raises(Exception, match="does not open"):
            same(made[0][1], made[1][1])


async def test_nothing_of_a_customers_key_is_kept(keys):
    record, _ = await keys.make(CUSTOMER, BUCKET, KEY)
    assert MINE not in encode(record)
    assert record.customer_key_md5 == "IrFgmCaV7d6e5dy9XWNROA=="
    assert record.key_id == ""
    assert repr(MINE)[2:-1] not in repr(CUSTOMER)


@pytest.mark.parametrize(
    ("customer_key", "says"),
    [
        (None, "stored using a form of Server Side Encryption"),
        (OTHER, "did not match"),
        (b"short", "invalid for the specified algorithm"),
    ],
)
async def test_without_the_customers_key_there_is_nothing_to_be_had(keys, customer_key, says):
    record, _ = await keys.make(CUSTOMER, BUCKET, KEY)
    with pytest.raises(InvalidRequest, match=says):
        await keys.open(record, BUCKET, KEY, customer_key)
    with pytest.raises(InvalidRequest, match=says):
        keys.check(record, BUCKET, KEY, customer_key)


async def test_a_customers_key_where_none_is_wanted_is_refused(keys):
    record, _ = await keys.make(Encryption(method="AES256"), BUCKET, KEY)
    with pytest.raises(InvalidRequest, match="not applicable"):
        await keys.open(record, BUCKET, KEY, MINE)
    for there in (record, None):
        with pytest.raises(InvalidRequest, match="not applicable"):
            keys.check(there, BUCKET, KEY, MINE)
        keys.check(there, BUCKET, KEY, None)


@pytest.mark.parametrize("wanted", [CUSTOMER, Encryption(method="aws:kms", context={"a": "b"})])
async def test_a_wrapped_key_opens_nothing_in_another_place(keys, wanted):
    record, _ = await keys.make(wanted, BUCKET, KEY)
    customer = wanted.customer_key or None
    for bucket, key in ((b"bucket-2", KEY), (BUCKET, KEY + b"x"), (BUCKET + KEY, b"")):
        with pytest.raises(AccessDenied):
            await keys.open(record, bucket, key, customer)


async def test_a_rotated_key_opens_older_versions(keys, path):
    record, cipher = await keys.make(Encryption(method="aws:kms", key_id="k1"), BUCKET, KEY)
    change_ring(path, lambda ring: with_new_version(ring, "k1"))
    assert same(cipher, await keys.open(record, BUCKET, KEY, None))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Encryption(method="aws:kms", key_id="gone"), "KMS.NotFoundException"),
        (Encryption(method="rot13"), "InvalidArgument"),
        (Encryption(method="SSE-C"), "InvalidArgument"),
        (Encryption(method="SSE-C", customer_key=b"x" * 31), "InvalidArgument"),
        (Encryption(method="aws:kms", context={"objectio:key": "x"}), "InvalidArgument"),
    ],
)
async def test_what_cannot_be_done_is_refused(keys, wanted, reason):
    with pytest.raises(InvalidRequest) as raised:
        await keys.make(wanted, BUCKET, KEY)
    assert raised.value.fields["reason"] == reason


async def test_a_key_may_have_to_be_named(kms):
    keys = DataKeys(kms, require_key_id=True)
    with pytest.raises(InvalidRequest, match="aws-kms-key-id"):
        await keys.make(Encryption(method="aws:kms"), BUCKET, KEY)
    await keys.make(Encryption(method="aws:kms", key_id="k1"), BUCKET, KEY)
    await keys.make(Encryption(method="AES256"), BUCKET, KEY)


async def test_a_key_ring_that_is_lost_is_said_to_be(keys, path):
    record, cipher = await keys.make(Encryption(method="AES256"), BUCKET, KEY)
    aside = path.rename(path.with_name("aside"))
    with pytest.raises(Unavailable, match="missing"):
        await keys.open(record, BUCKET, KEY, None)
    with pytest.raises(Unavailable, match="missing"):
        await keys.make(Encryption(method="AES256"), BUCKET, KEY)
    customers, _ = await keys.make(CUSTOMER, BUCKET, KEY)  # does not need it
    await keys.open(customers, BUCKET, KEY, MINE)
    aside.rename(path)
    assert same(cipher, await keys.open(record, BUCKET, KEY, None))


async def test_a_key_that_went_from_the_ring_is_not_found(keys, path):
    before = path.read_bytes()
    change_ring(path, lambda ring: with_key(ring, "k2"))
    record, _ = await keys.make(Encryption(method="aws:kms", key_id="k2"), BUCKET, KEY)
    path.write_bytes(before)
    with pytest.raises(NotFound):
        await keys.open(record, BUCKET, KEY, None)


async def test_without_a_key_manager_only_customers_have_keys():
    keys = DataKeys(None)
    record, cipher = await keys.make(CUSTOMER, BUCKET, KEY)
    assert same(cipher, await keys.open(record, BUCKET, KEY, MINE))
    with pytest.raises(Unavailable):
        await keys.make(Encryption(method="AES256"), BUCKET, KEY)


def test_the_default_of_a_bucket():
    assert default_encryption({}) is None
    document = DefaultEncryption(method="aws:kms", key_id="k1", bucket_key=True)
    assert default_encryption({ENCRYPTION: encode_document(document)}) == Encryption(
        method="aws:kms", key_id="k1", bucket_key=True
    )


def test_a_default_that_cannot_be_read_does_not_count_as_none():
    with pytest.raises(Exception, match="truncated"):
        default_encryption({ENCRYPTION: b"{"})
