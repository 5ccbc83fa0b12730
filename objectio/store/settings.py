"""What can be set of the store: `[store]` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from objectio.config.schema import StoreSection
from objectio.limits import MIB, PART_SIZE_BYTES_MIN
from objectio.store.lifecycle import LifecycleSettings
from objectio.store.repair import RepairSettings
from objectio.store.scrub import ScrubSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """See `[store]` in the configuration."""

    memory_bytes_max: int = 128 * MIB
    write_straggler_seconds: float = 1.0
    gc_grace_seconds: float = 0.0
    part_size_bytes_min: int = PART_SIZE_BYTES_MIN
    repair_interval_seconds: float = 60.0
    repair_bytes_per_second: float = 256.0 * MIB
    rebalance_bytes_per_second: float = 128.0 * MIB
    read_hedge_seconds: float = 0.02
    scrub_interval_seconds: float = 0.0
    scrub_bytes_per_second: float = 32.0 * MIB
    quota_interval_seconds: float = 10.0
    lifecycle_interval_seconds: float = 60.0
    lifecycle_rows_per_second: float = 20_000.0
    lifecycle_day_seconds: float = 86_400.0
    threads: int = 4

    @property
    def repair(self) -> RepairSettings:
        return RepairSettings(
            interval_seconds=self.repair_interval_seconds,
            bytes_per_second=self.repair_bytes_per_second,
            memory_bytes=self.memory_bytes_max // 4,
        )

    @property
    def scrub(self) -> ScrubSettings:
        return ScrubSettings(
            interval_seconds=self.scrub_interval_seconds,
            bytes_per_second=self.scrub_bytes_per_second,
            memory_bytes=self.memory_bytes_max // 8,
        )

    @property
    def lifecycle(self) -> LifecycleSettings:
        return LifecycleSettings(
            interval_seconds=min(self.lifecycle_interval_seconds, self.lifecycle_day_seconds / 10),
            rows_per_second=self.lifecycle_rows_per_second,
            day_seconds=self.lifecycle_day_seconds,
        )


def settings_of(section: StoreSection) -> StoreSettings:
    return StoreSettings(
        memory_bytes_max=section.memory_bytes_max,
        write_straggler_seconds=section.write_straggler_seconds,
        gc_grace_seconds=section.gc_grace_seconds,
        part_size_bytes_min=section.part_size_bytes_min,
        repair_interval_seconds=section.repair_interval_seconds,
        repair_bytes_per_second=section.repair_bytes_per_second,
        rebalance_bytes_per_second=section.rebalance_bytes_per_second,
        read_hedge_seconds=section.read_hedge_seconds,
        scrub_interval_seconds=section.scrub_interval_seconds,
        scrub_bytes_per_second=section.scrub_bytes_per_second,
        quota_interval_seconds=section.quota_interval_seconds,
        lifecycle_interval_seconds=section.lifecycle_interval_seconds,
        lifecycle_rows_per_second=section.lifecycle_rows_per_second,
        lifecycle_day_seconds=section.lifecycle_day_seconds,
    )
