// The machine's battery-backed clock (MC146818), read once at boot: what guests are told of the time of day.
// It is taken to keep UTC. Motorola MC146818A data sheet, "Time, Calendar, and Alarm Locations", "Update Cycle".

import { in8, out8, pause } from "../kernel/cpu/insn";
import { daysFromDate } from "../kernel/lib/date";

const INDEX_PORT: u32 = 0x70;
const DATA_PORT: u32 = 0x71;
const NMI_OFF: u32 = 0x80; // the index port's bit 7 masks NMI while the registers are read

const enum Reg {
  SECONDS = 0,
  MINUTES = 2,
  HOURS = 4,
  DAY = 7,
  MONTH = 8,
  YEAR = 9,
  A = 10,
  B = 11,
  D = 13,
  CENTURY = 0x32, // where PCs keep it
}

const A_UPDATING: u32 = 0x80;
const B_24_HOURS: u32 = 2;
const B_BINARY: u32 = 4;
const PM: u32 = 0x80;
/** An update lasts about 2 ms, and a read of the port about 1 us. */
const UPDATE_READS: u32 = 20_000;
const TRIES: u32 = 8;
const SECONDS_A_DAY: u64 = 86_400;

function read(reg: u32): u32 {
  out8(INDEX_PORT, NMI_OFF | reg);
  return in8(DATA_PORT);
}

/** Seconds since 1970; 0 if there is no clock that can be believed. */
export function readClock(): u64 {
  let before: u64 = 0;
  for (let i: u32 = 0; i < TRIES; i++) {
    const seconds = readOnce();
    if (seconds != 0 && seconds == before) return done(seconds);
    before = seconds;
  }
  return done(0);
}

/** Lets NMIs through again. */
function done(seconds: u64): u64 {
  out8(INDEX_PORT, Reg.D);
  return seconds;
}

/** One reading outside of an update; 0 if it makes no date. */
function readOnce(): u64 {
  for (let i: u32 = 0; i < UPDATE_READS && (read(Reg.A) & A_UPDATING) != 0; i++) pause();
  const mode = read(Reg.B);
  const second = decode(read(Reg.SECONDS), mode);
  const minute = decode(read(Reg.MINUTES), mode);
  const hour = decodeHour(read(Reg.HOURS), mode);
  const day = decode(read(Reg.DAY), mode);
  const month = decode(read(Reg.MONTH), mode);
  const year = decode(read(Reg.YEAR), mode);
  if (second > 59 || minute > 59 || hour > 23 || day - 1 > 30 || month - 1 > 11 || year > 99) return 0;
  const days = daysFromDate(century(mode) * 100 + year, month, day);
  return <u64>days * SECONDS_A_DAY + <u64>(hour * 3600 + minute * 60 + second);
}

/** 20 unless the register says something likely. */
function century(mode: u32): u32 {
  const value = decode(read(Reg.CENTURY), mode);
  return value == 20 || value == 21 ? value : 20;
}

function decode(value: u32, mode: u32): u32 {
  return mode & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

function decodeHour(value: u32, mode: u32): u32 {
  if (mode & B_24_HOURS) return decode(value, mode);
  const hour = decode(value & ~PM, mode) % 12;
  return value & PM ? hour + 12 : hour;
}
