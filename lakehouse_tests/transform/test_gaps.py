"""Every expected slot is covered or in exactly one gap, and every gap has a class."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.model.cadence import Grid
from lakehouse.model.life import Life
from lakehouse.model.market import Market
from lakehouse.model.result import Asked, GapRun
from lakehouse.model.timerange import TimeRange
from lakehouse.transform.gaps import LISTING_BREAK, cut, find_gaps, told, told_frame
from lakehouse_tests.making import BTC, MINUTE, NOW, at, series

WINDOW = TimeRange(at("2024-02-05T00:00"), at("2024-02-05T02:00"))
SLOTS = [WINDOW.start + n * MINUTE for n in range(120)]
HOURS = series([WINDOW.start, WINDOW.start + 60 * MINUTE])  # those that the witness confirms
offsets = st.integers(-30 * 60, 150 * 60).map(lambda seconds: WINDOW.start + timedelta(seconds=seconds))
# Covered slots, some of them by a row that opens within its minute; whole stretches are likely.
covered = st.lists(
    st.tuples(st.integers(0, 119), st.integers(1, 60), st.sampled_from([0, 0, 0, 17])), max_size=4
).map(
    lambda parts: sorted(
        {
            SLOTS[n] + timedelta(seconds=off)
            for first, count, off in parts
            for n in range(first, min(120, first + count))
        }
    )
)
instants = st.integers(-5, 125).map(lambda n: WINDOW.start + n * MINUTE)


@st.composite
def askings(draw: st.DrawFn) -> Asked:
    start = draw(instants)
    end = start + draw(st.integers(1, 90)) * MINUTE
    before = draw(st.sampled_from([None, start - MINUTE]))
    after = draw(st.sampled_from([None, end]))
    return Asked(
        start,
        end,
        at("2024-03-01") + draw(st.integers(0, 2)) * MINUTE,
        draw(st.sampled_from(["rows", "rows", "empty", "unreachable"])),
        before,
        after,
    )


disputes = st.none() | st.lists(st.integers(0, 119), max_size=20).map(
    lambda found: series(sorted({SLOTS[n] + timedelta(seconds=3) for n in found}))
)


def slots(run: GapRun) -> list[datetime]:
    return [run.start + n * MINUTE for n in range(run.slot_count)]


def floor(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


@given(
    covered,
    offsets,
    st.none() | offsets,
    st.none() | offsets,
    disputes,
    st.lists(askings(), max_size=3),
    covered,
    st.sets(st.integers(0, 1)),
)
def test_covered_slots_and_gaps_part_the_expected_slots(
    times: list[datetime],
    asked_until: datetime,
    listed: datetime | None,
    delisted: datetime | None,
    disputed: pl.Series | None,
    asked: list[Asked],
    api: list[datetime],
    hours: set[int],
) -> None:
    confirmed = [HOURS[n] for n in sorted(hours)]
    runs = find_gaps(
        series(times),
        WINDOW,
        MINUTE,
        asked_until,
        Life(listed, delisted),
        disputed,
        asked,
        series(api),
        confirmed=series(confirmed),
    )
    missing = [slot for run in runs for slot in slots(run)]
    assert sorted(
        missing + [slot for slot in SLOTS if slot < asked_until and slot in {floor(time) for time in times}]
    ) == [slot for slot in SLOTS if slot < asked_until]

    conflicts = {floor(time) for time in disputed} if disputed is not None else set()
    answered = [asking for asking in asked if asking.outcome != "unreachable"]
    lasting = find_gaps(
        series(times),
        WINDOW,
        MINUTE,
        asked_until,
        Life(listed, delisted),
        disputed,
        asked,
        series(api),
        confirmed=HOURS,
    )
    touched = {
        slot: {each.replace(minute=0) for each in slots(run)}
        for run in lasting
        if run.gap_class == "halt"
        for slot in slots(run)
    }
    for run in runs:
        assert run.end == run.start + run.slot_count * MINUTE
        for slot in slots(run):
            covering = [asking for asking in answered if asking.start <= slot and slot + MINUTE <= asking.end]
            outside = (listed is not None and slot < floor(listed)) or (
                delisted is not None and slot >= delisted
            )
            halted = (
                slot not in {floor(time) for time in api}
                and any(
                    (asking.before or any(asking.start <= time < slot for time in api))
                    and (asking.after or any(slot + MINUTE <= time < asking.end for time in api))
                    for asking in covering
                )
                and touched.get(slot, set()) <= set(confirmed)
            )
            assert run.gap_class == (
                "not_listed"
                if outside
                else "conflict"
                if slot in conflicts
                else "halt"
                if halted
                else "absent"
            )
            assert run.asked_at == (
                max((asking.at for asking in covering), default=None) if run.gap_class == "absent" else None
            )
    assert all(
        before.end < after.start or (before.gap_class, before.asked_at) != (after.gap_class, after.asked_at)
        for before, after in pairwise(runs)
    ), "as long as they can be"
    assert [run.start for run in runs] == sorted(run.start for run in runs)


@given(covered, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(times: list[datetime], random: object) -> None:
    shuffled = list(times)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert find_gaps(series(times), WINDOW, MINUTE, WINDOW.end) == find_gaps(
        series(shuffled), WINDOW, MINUTE, WINDOW.end
    )


def test_a_slot_that_nobody_was_asked_about_is_no_gap() -> None:
    assert find_gaps(series([]), WINDOW, MINUTE, WINDOW.start) == ()
    assert find_gaps(series([]), WINDOW, MINUTE, WINDOW.start - timedelta(days=1)) == ()
    assert find_gaps(series([]), WINDOW, MINUTE, WINDOW.end + timedelta(days=1)) == (
        GapRun("absent", WINDOW.start, WINDOW.end, 120),
    )


def test_expected_slots_are_half_open_and_typed() -> None:
    found = Grid(MINUTE).slots(WINDOW)
    assert (found.to_list(), found.dtype) == (SLOTS, pl.Datetime("us", "UTC"))


# --- halts ----------------------------------------------------------------------------------------

RAN = [*SLOTS[:30], *SLOTS[60:]]
AT = at("2024-03-01")
HALT = GapRun("halt", SLOTS[30], SLOTS[60], 30)


def absent(first: int, end: int, asked_at: datetime | None = None) -> GapRun:
    return GapRun("absent", SLOTS[first], SLOTS[end - 1] + MINUTE, end - first, asked_at)


def gaps_of(
    *asked: Asked,
    api: list[datetime] = RAN,
    times: list[datetime] = RAN,
    truncated: pl.DataFrame | None = None,
) -> tuple[GapRun, ...]:
    return find_gaps(
        series(times),
        WINDOW,
        MINUTE,
        WINDOW.end,
        asked=asked,
        api_times=series(api),
        truncated=truncated,
        confirmed=HOURS,
    )


def test_a_halt_is_a_request_with_candles_on_both_sides_and_none_between() -> None:
    assert gaps_of(Asked(SLOTS[0], SLOTS[119], AT, "rows")) == (HALT,)
    assert gaps_of(Asked(SLOTS[29], SLOTS[61], AT, "rows")) == (HALT,)
    assert gaps_of(Asked(SLOTS[30], SLOTS[60], AT, "empty", SLOTS[29], SLOTS[60])) == (HALT,)
    assert gaps_of(Asked(SLOTS[29], SLOTS[60], AT, "rows", after=SLOTS[60])) == (HALT,)


def test_a_halt_is_confirmed_by_every_hour_it_touches() -> None:
    """A page that is empty or short proves nothing where an hour trades, or where nobody was asked about it
    yet.
    """
    whole, across = Asked(SLOTS[0], SLOTS[119], AT, "rows"), [*SLOTS[:50], *SLOTS[70:]]

    def classes(times: list[datetime], *hours: datetime) -> list[str]:
        found = find_gaps(
            series(times),
            WINDOW,
            MINUTE,
            WINDOW.end,
            asked=[whole],
            api_times=series(times),
            confirmed=series(hours),
        )
        return [run.gap_class for run in found]

    assert classes(RAN) == ["absent"]
    assert classes(RAN, SLOTS[60]) == ["absent"]
    assert classes(RAN, SLOTS[0]) == ["halt"]
    assert classes(across, SLOTS[0]) == classes(across, SLOTS[60]) == ["absent"]
    assert classes(across, SLOTS[0], SLOTS[60]) == ["halt"]
    assert find_gaps(series(RAN), WINDOW, MINUTE, WINDOW.end, asked=[whole], api_times=series(RAN)) == (
        absent(30, 60, AT),
    )


def test_without_a_candle_on_one_side_nothing_is_proven_and_the_asking_is_remembered() -> None:
    assert gaps_of() == (absent(30, 60),)
    assert gaps_of(Asked(SLOTS[0], SLOTS[119], AT, "unreachable", SLOTS[0], SLOTS[119])) == (absent(30, 60),)
    assert gaps_of(Asked(SLOTS[30], SLOTS[60], AT, "empty")) == (absent(30, 60, AT),)
    assert gaps_of(Asked(SLOTS[0], SLOTS[60], AT, "rows")) == (absent(30, 60, AT),)
    assert gaps_of(Asked(SLOTS[30], SLOTS[119], AT, "rows")) == (absent(30, 60, AT),)
    later = AT + timedelta(days=1)
    assert gaps_of(Asked(SLOTS[0], SLOTS[60], later, "rows"), Asked(SLOTS[30], SLOTS[60], AT, "empty")) == (
        absent(30, 60, later),
    )


def test_a_market_that_comes_back_after_a_week_was_taken_off_and_listed_again() -> None:
    """The candles around the hole may lie beyond the cell: it is the whole hole that counts."""
    early = SLOTS[:30]
    whole = Asked(
        SLOTS[30], WINDOW.end, AT, "empty", before=SLOTS[29], after=SLOTS[29] + LISTING_BREAK - MINUTE
    )
    assert [run.gap_class for run in gaps_of(whole, times=early, api=[])] == ["halt"]
    broken = replace(whole, after=SLOTS[29] + LISTING_BREAK)
    assert [(run.gap_class, run.start, run.end) for run in gaps_of(broken, times=early, api=[])] == [
        ("not_listed", SLOTS[30], WINDOW.end)
    ]


def test_the_two_sides_of_a_halt_come_from_one_asking() -> None:
    """Two answers from two days may each have half of the candles; neither shows that nothing was between."""
    assert gaps_of(Asked(SLOTS[0], SLOTS[45], AT, "rows"), Asked(SLOTS[45], SLOTS[119], AT, "rows")) == (
        absent(30, 60, AT),
    )
    assert gaps_of(
        Asked(SLOTS[0], SLOTS[45], AT, "rows", after=SLOTS[60]),
        Asked(SLOTS[45], SLOTS[119], AT, "rows", before=SLOTS[29]),
    ) == (HALT,)


def test_a_run_is_cut_where_askings_cover_parts_of_it() -> None:
    partly = Asked(SLOTS[20], SLOTS[45], AT, "rows", after=SLOTS[60])
    assert gaps_of(partly) == (GapRun("halt", SLOTS[30], SLOTS[45], 15), absent(45, 60))
    assert gaps_of(
        Asked(SLOTS[20], SLOTS[45] + timedelta(seconds=30), AT, "rows", after=SLOTS[60])
    ) == gaps_of(partly), "half a slot asked for is not asked for"
    assert gaps_of(Asked(SLOTS[40], SLOTS[50], AT, "empty")) == (
        absent(30, 40),
        absent(40, 50, AT),
        absent(50, 60),
    )


def test_a_row_of_the_api_that_could_not_be_served_is_no_halt() -> None:
    odd = SLOTS[44] + timedelta(seconds=7)
    runs = gaps_of(Asked(SLOTS[0], SLOTS[119], AT, "rows"), api=[*RAN, odd])
    assert runs == (
        GapRun("halt", SLOTS[30], SLOTS[44], 14),
        absent(44, 45, AT),
        GapRun("halt", SLOTS[45], SLOTS[60], 15),
    )


def test_a_halt_began_with_the_end_of_the_truncated_candle_right_before_it() -> None:
    whole = Asked(SLOTS[0], SLOTS[119], AT, "rows")
    stopped = SLOTS[29] + timedelta(seconds=41, microseconds=645_999)

    def cut(time: datetime) -> pl.DataFrame:
        return pl.DataFrame({"open_time": series([time]), "close_time": series([stopped])})

    def halted(time: datetime, *asked: Asked, times: list[datetime] = RAN) -> list[datetime | None]:
        return [run.halted_at for run in gaps_of(*asked, times=times, truncated=cut(time))]

    assert halted(SLOTS[29], whole) == [stopped + timedelta(microseconds=1)]
    assert halted(SLOTS[28], whole) == [None], "not the row right before the halt"
    assert halted(SLOTS[29]) == [None], "no halt"
    odd = SLOTS[29] + timedelta(seconds=14)
    assert halted(odd, whole, times=[*RAN, odd]) == [stopped + timedelta(microseconds=1)], (
        "two rows in one slot: the later one is right before"
    )
    assert halted(SLOTS[29], whole, times=[*RAN, odd]) == [None]


# --- what a reader is told ------------------------------------------------------------------------

WEEK = timedelta(days=7)


@st.composite
def runs_told(draw: st.DrawFn) -> GapRun:
    start = at("2024-02-01") + draw(st.integers(0, 10_000)) * MINUTE
    n = draw(st.integers(1, 20_000))
    return GapRun(
        draw(st.sampled_from(["not_listed", "halt", "conflict", "absent"])),
        start,
        start + n * MINUTE,
        n,
        start if draw(st.booleans()) else None,
    )


@given(runs_told(), st.integers(0, 60 * 24 * 60))
def test_an_absent_slot_is_unproven_once_its_day_is_older_than_the_grace(run: GapRun, minute: int) -> None:
    now = at("2024-01-20") + minute * MINUTE
    parts = list(told([run], now))
    assert [slot for _, part in parts for slot in slots(part)] == slots(run)
    assert all(
        part.end == part.start + part.slot_count * MINUTE and part.asked_at == run.asked_at
        for _, part in parts
    )
    for gap_class, part in parts:
        if run.gap_class != "absent":
            assert (gap_class, part) == (run.gap_class, run)
            continue
        for slot in (part.start, part.end - MINUTE):
            day_end = slot.replace(hour=0, minute=0) + timedelta(days=1)
            assert gap_class == ("unproven" if now >= day_end + WEEK else "pending")


@given(runs_told(), st.integers(-100, 15_000), st.integers(1, 30_000), st.sampled_from([0, 1, 30]))
def test_a_cut_run_has_the_slots_that_open_in_the_range(
    run: GapRun, start: int, length: int, seconds: int
) -> None:
    first = at("2024-02-01") + start * MINUTE + timedelta(seconds=seconds)
    end = first + length * MINUTE
    part = cut(run, first, end)
    assert (slots(part) if part else []) == [slot for slot in slots(run) if first <= slot < end]


def test_runs_of_markets_come_as_a_frame_in_order() -> None:
    eth, stop = Market("binance", "spot", "ETHUSDT"), at("2024-02-05T12:34:56")
    runs = [
        (eth, (GapRun("absent", at("2024-02-05"), at("2024-02-07"), 2880, NOW),)),
        (
            BTC,
            (
                GapRun("halt", at("2024-02-05T12:35"), at("2024-02-05T13:00"), 25, None, stop),
                GapRun("not_listed", at("2024-02-09"), at("2024-02-10"), 1440),
            ),
        ),
    ]
    now = at("2024-02-13T00:00")  # a week after the first day of the absent run, to the minute
    assert told_frame(runs, now).drop("exchange", "market_type").rows() == [
        ("BTCUSDT", at("2024-02-05T12:35"), at("2024-02-05T13:00"), 25, "halt", None, stop),
        ("BTCUSDT", at("2024-02-09"), at("2024-02-10"), 1440, "not_listed", None, None),
        ("ETHUSDT", at("2024-02-05"), at("2024-02-06"), 1440, "unproven", NOW, None),
        ("ETHUSDT", at("2024-02-06"), at("2024-02-07"), 1440, "pending", NOW, None),
    ]
    asked = told_frame(runs, now, TimeRange(at("2024-02-05T23:59"), at("2024-02-06T00:01")))
    assert asked.select("symbol", "slot_count", "gap_class").rows() == [
        ("ETHUSDT", 1, "unproven"),
        ("ETHUSDT", 1, "pending"),
    ]
    empty = told_frame([], now)
    assert (empty.height, empty.schema) == (0, asked.schema)
