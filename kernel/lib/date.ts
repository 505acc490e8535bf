// Civil dates (proleptic Gregorian), by days since 1970-01-01.

/** Days from 1970-01-01 to the given date; month 1..12, day 1..31. Years from 1970 on. */
export function daysFromDate(year: u32, month: u32, day: u32): u32 {
  // Years begin in March, so that the leap day is the last of one.
  const y = month <= 2 ? year - 1 : year;
  const m = month <= 2 ? month + 9 : month - 3;
  const yearDay = (153 * m + 2) / 5 + day - 1;
  return 365 * y + y / 4 - y / 100 + y / 400 + yearDay - 719468;
}

/** The date `days` after 1970-01-01, packed: year << 16 | month << 8 | day. */
export function dateFromDays(days: u32): u32 {
  const shifted = days + 719468;
  const era = shifted / 146097;
  const eraDay = shifted % 146097;
  const eraYear = (eraDay - eraDay / 1460 + eraDay / 36524 - eraDay / 146096) / 365;
  const yearDay = eraDay - (365 * eraYear + eraYear / 4 - eraYear / 100);
  const m = (5 * yearDay + 2) / 153;
  const day = yearDay - (153 * m + 2) / 5 + 1;
  const month = m < 10 ? m + 3 : m - 9;
  const year = eraYear + era * 400 + (month <= 2 ? 1 : 0);
  return (year << 16) | (month << 8) | day;
}
