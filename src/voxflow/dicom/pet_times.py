"""How long the dose of a PET scan decayed: from its injection to the moment that the images are corrected to.

Rules, in this order. A stated date and time of injection counts; a bare time of day counts where no date is stated, or
where the stated date lies days off and the nuclide does not live long enough for it (anonymizers shift dates, not
always all of them). Times with a zone are compared with times that have one. What contradicts another time raises
:class:`NoSuvError`; the caller then keeps the activity.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from math import expm1, isfinite, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom.headers import DicomAttributes

# After so many half lives a thousandth of the dose is left; no scanner measures that.
MAX_HALF_LIVES = 10
# Dynamic scans start before the injection: by seconds, some by minutes.
MAX_LATE_SECONDS, MAX_LATE_HALF_LIVES = 600, 2
# Nuclides that live longer (Cu-64, Zr-89, I-124) are imaged on later days, too: a time of day does not say which.
MAX_UNDATED_HALF_LIFE = 3 * 3600
# Times that say the same, as half lives: within this, the activity is equal to 1 %.
SAME_TIME_HALF_LIVES = 0.0144
# A series may start so many seconds (and one half life at most) before its first frame without saying how long.
MAX_SILENT_GAP = 600
DAY_SECONDS = 86400

# DT of PS3.5 6.2, or DA and TM one after the other, to the minute at least.
_MOMENT = re.compile(r"(\d{12}(?:\d\d)?)(?:\.(\d{1,6})\d*)?([+-]\d{4})?")


class NoSuvError(Exception):
    """Why a series is not turned into SUV; never leaves this package."""


def measure_decay_time(
    datasets: Sequence[DicomAttributes], radiopharmaceutical: DicomAttributes, half_life: float
) -> tuple[float, str]:
    """Measure the time from the injection to the moment that the images are decay corrected to.

    Args:
        datasets: the headers of all slices.
        radiopharmaceutical: the item of RadiopharmaceuticalInformationSequence (0054,0016).
        half_life: s.

    Returns:
        Seconds, below 0 where the injection came after the scan's start; and a remark on how they were found, or "".

    Raises:
        NoSuvError: times are missing, or contradict each other.
    """
    zone = _parse_zone(str(datasets[0].get("TimezoneOffsetFromUTC") or "").strip())
    corrected_to = _find_decay_reference(datasets, half_life, zone)
    latest = min(MAX_LATE_SECONDS, MAX_LATE_HALF_LIVES * half_life)
    time = str(radiopharmaceutical.get("RadiopharmaceuticalStartTime") or "").strip()
    by_clock = _measure_by_clock(corrected_to, time, zone, latest)
    injected = parse_moment(str(radiopharmaceutical.get("RadiopharmaceuticalStartDateTime") or ""), zone)
    remark = ""
    if injected is not None:
        elapsed = _measure_from_date(corrected_to, injected, by_clock)
        _check_same_clock(elapsed, by_clock, half_life)
        if -latest <= elapsed <= MAX_HALF_LIVES * half_life:
            return elapsed, ""
        if by_clock is None or abs(elapsed) < DAY_SECONDS:
            raise NoSuvError(f"RadiopharmaceuticalStartDateTime (0018,1078) lies {_describe_interval(elapsed)}")
        remark = "the dates of injection and scan contradict each other, so that the injection's time of day counts"
    return _check_undated(by_clock, half_life), remark


def parse_moment(text: str, zone: timezone | None = None) -> datetime | None:
    """Parse a date with a time, as DT or as DA and TM.

    Args:
        text: ``YYYYMMDDHHMM[SS[.F]][+HHMM]``; colons and blanks are left out.
        zone: of a text that names none; None where it is not known.

    Returns:
        The moment; None for anything else, such as a date alone.

    Example:
        >>> parse_moment("20200108110000.5+0100").isoformat(), parse_moment("20200108")
        ('2020-01-08T11:00:00.500000+01:00', None)
    """
    match = _MOMENT.fullmatch(re.sub(r"[: \0]", "", text))
    if match is None:
        return None
    digits, fraction, offset = match.groups()
    stated_zone = _parse_zone(offset) if offset else zone
    if offset and stated_zone is None:
        return None
    try:
        moment = datetime.strptime(digits.ljust(14, "0") + (fraction or "0"), "%Y%m%d%H%M%S%f")
    except ValueError:
        return None
    # Anonymizers write any year; the first and the last one leave no room for the time before and after.
    return moment.replace(tzinfo=stated_zone) if 1 < moment.year < 9999 else None


def read_number(dataset: DicomAttributes, keyword: str) -> float | None:
    """Read a finite number; None where there is none."""
    try:
        value = float(dataset.get(keyword))
    except (TypeError, ValueError):
        return None
    return value if isfinite(value) else None


def _parse_zone(text: str) -> timezone | None:
    """``+HHMM``, as TimezoneOffsetFromUTC (0008,0201) states it; from -12 to +14 hours (PS3.5 6.2)."""
    if not re.fullmatch(r"[+-]\d{4}", text):
        return None
    minutes = int(text[0] + "1") * (60 * int(text[1:3]) + int(text[3:]))
    return timezone(timedelta(minutes=minutes)) if -720 <= minutes <= 840 else None


def _subtract(later: datetime, earlier: datetime) -> float:
    if (later.tzinfo is None) != (earlier.tzinfo is None):
        raise NoSuvError("one time states a zone and another one none, not even TimezoneOffsetFromUTC (0008,0201)")
    return (later - earlier).total_seconds()


def _measure_by_clock(corrected_to: datetime, time: str, zone: timezone | None, latest: float) -> float | None:
    """Seconds since a time of day, of the day that leaves from ``-latest`` to a day less of it."""
    if not time or (corrected_to.tzinfo is not None and zone is None):
        return None
    scan = corrected_to.astimezone(zone) if zone else corrected_to
    same_day = parse_moment(f"{scan.year:04}{scan:%m%d}{time}", zone)
    return None if same_day is None else (_subtract(scan, same_day) + latest) % DAY_SECONDS - latest


def _measure_from_date(corrected_to: datetime, injected: datetime, by_clock: float | None) -> float:
    if injected.tzinfo is not None and corrected_to.tzinfo is None and by_clock is not None:
        # A zone that only the injection states is the scanner's, if the bare time of injection reads the same.
        elapsed = _subtract(corrected_to, injected.replace(tzinfo=None))
        if abs((elapsed - by_clock) % DAY_SECONDS) < 1:
            return elapsed
    return _subtract(corrected_to, injected)


def _check_same_clock(elapsed: float, by_clock: float | None, half_life: float) -> None:
    if by_clock is None:
        return
    difference = abs((elapsed - by_clock + DAY_SECONDS / 2) % DAY_SECONDS - DAY_SECONDS / 2)
    if difference > max(1, SAME_TIME_HALF_LIVES * half_life):
        raise NoSuvError(
            "RadiopharmaceuticalStartDateTime (0018,1078) and RadiopharmaceuticalStartTime (0018,1072) contradict each "
            "other"
        )


def _check_undated(by_clock: float | None, half_life: float) -> float:
    """The seconds since a bare time of day, if they can be believed."""
    if by_clock is None:
        raise NoSuvError("RadiopharmaceuticalStartTime (0018,1072) is missing or no time")
    if half_life > MAX_UNDATED_HALF_LIFE:
        raise NoSuvError(
            "no date of injection fits, RadiopharmaceuticalStartDateTime (0018,1078), and the nuclide lives for days"
        )
    if by_clock > MAX_HALF_LIVES * half_life:
        raise NoSuvError(f"RadiopharmaceuticalStartTime (0018,1072) lies {_describe_interval(by_clock)}")
    return by_clock


def _describe_interval(seconds: float) -> str:
    side = "before" if seconds > 0 else "after"
    return f"{abs(seconds) / 3600:.4g} h {side} the moment that the images are corrected to"


def _find_decay_reference(datasets: Sequence[DicomAttributes], half_life: float, zone: timezone | None) -> datetime:
    """The moment that the images are corrected to: stated, or the start of the series (QIBA)."""
    stated = parse_moment(str(datasets[0].get("DecayCorrectionDateTime") or ""), zone)
    moments = [(_read_datetime(dataset, "Acquisition", zone), dataset) for dataset in datasets]
    acquired, first = min(
        ((moment, dataset) for moment, dataset in moments if moment is not None),
        key=lambda pair: pair[0],
        default=(None, datasets[0]),
    )
    if stated is not None:
        ahead = _subtract(acquired, stated) if acquired else 0.0
        if not -DAY_SECONDS <= ahead <= MAX_HALF_LIVES * half_life:
            raise NoSuvError(
                "DecayCorrectionDateTime (0018,9701) and AcquisitionDate (0008,0022) contradict each other"
            )
        return stated
    series = _read_datetime(datasets[0], "Series", zone)
    if series is not None and acquired is None:
        return series
    if acquired is None:
        raise NoSuvError("neither SeriesTime (0008,0031) nor AcquisitionTime (0008,0032) can be read")
    # Fractions of a second are cut off in one of them at times.
    if series is not None and _subtract(acquired, series) > -1:
        _check_gap(max(0, _subtract(acquired, series)), first, half_life)
        return series
    return _infer_start(acquired, first, half_life)


def _check_gap(gap: float, frame: DicomAttributes, half_life: float) -> None:
    """Hold the time from the series' start to its first frame against FrameReferenceTime (0054,1300), in ms."""
    reference = (read_number(frame, "FrameReferenceTime") or 0) / 1000
    if reference > 0:
        # PS3.3 C.8.9.4.1.5 counts to the moment of mean activity, GE to the start of the frame.
        duration = max(0.0, read_number(frame, "ActualFrameDuration") or 0) / 1000
        fits = abs(gap - reference) <= duration + 2 * SAME_TIME_HALF_LIVES * half_life
    else:
        fits = gap <= min(MAX_SILENT_GAP, half_life)
    if not fits:
        raise NoSuvError(
            "SeriesTime (0008,0031), AcquisitionTime (0008,0032) and FrameReferenceTime (0054,1300) contradict each "
            "other"
        )


def _infer_start(acquired: datetime, frame: DicomAttributes, half_life: float) -> datetime:
    """A series that was made anew later on: each slice tells how far it lies behind the start of the scan."""
    reference, duration = read_number(frame, "FrameReferenceTime"), read_number(frame, "ActualFrameDuration")
    if reference is None or duration is None:
        raise NoSuvError(
            "SeriesTime (0008,0031) is missing or after the acquisition, and FrameReferenceTime (0054,1300) is missing"
        )
    if not (0 <= reference <= 1000 * DAY_SECONDS and 0 <= duration <= 1000 * DAY_SECONDS):
        raise NoSuvError("FrameReferenceTime (0054,1300) or ActualFrameDuration (0018,1242) can't be right")
    rate = log(2) / half_life
    frame_decay = rate * duration / 1000
    # The moment within a frame at which activity equals the frame's mean, s after its start.
    middle = log(frame_decay / -expm1(-frame_decay)) / rate if frame_decay > 0 else 0.0
    # No frame's mean comes before it: so short a time was counted to the frame's start, as GE does.
    ahead = reference / 1000 - middle
    return acquired - timedelta(seconds=ahead if ahead >= 0 else reference / 1000)


def _read_datetime(dataset: DicomAttributes, event: str, zone: timezone | None) -> datetime | None:
    date, time = str(dataset.get(f"{event}Date") or ""), str(dataset.get(f"{event}Time") or "")
    if date and time:
        return parse_moment(date.replace(".", "") + time, zone)
    return parse_moment(str(dataset.get(f"{event}DateTime") or ""), zone)
