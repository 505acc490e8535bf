// The guest's MC146818 clock with 128 bytes of CMOS memory, at 70H and 71H, IRQ 8. The time is the
// machine's time of day plus what the guest set; registers are computed when they are read.
// Flags of events that passed unseen are computed too; a deadline exists only for an enabled interrupt.
// Motorola MC146818A data sheet, "Register A" to "Register D", "Update Cycle".

import { rdtsc } from "../cpu/insn";
import { dateFromDays, daysFromDate } from "../lib/date";
import { Status } from "../lib/status";
import { Pending, request } from "../vcpu/event";
import { arenaAlloc, Vm, vcpuOf } from "../vcpu/vm";
import { IRQ_RTC, setIrq } from "../virq/line";
import { clockTicks, mulDiv, RTC_HZ, tscHz, tscTicks } from "../virq/rate";
import { timeOfDayAt } from "./walltime";

const enum Reg {
  SECONDS = 0,
  SECONDS_ALARM = 1,
  MINUTES = 2,
  MINUTES_ALARM = 3,
  HOURS = 4,
  HOURS_ALARM = 5,
  WEEKDAY = 6,
  DAY = 7,
  MONTH = 8,
  YEAR = 9,
  A = 10,
  B = 11,
  C = 12,
  D = 13,
  CENTURY = 0x32,
}

const A_UIP: u32 = 0x80;
const B_SET: u32 = 0x80;
const B_BINARY: u32 = 0x04;
const B_24_HOURS: u32 = 0x02;
const FLAG_PERIODIC: u32 = 0x40;
const FLAG_ALARM: u32 = 0x20;
const FLAG_UPDATE: u32 = 0x10;
const FLAG_IRQ: u32 = 0x80;
const D_VALID: u32 = 0x80;
const PM: u32 = 0x80;
const DONT_CARE: u32 = 0xc0;
const HOURS_WORD: u64 = 3600;
const DAY_SECONDS: u64 = 86400;
const NS_PER_SECOND: u64 = 1_000_000_000;
/** UIP is set this long before the registers change, and while they do. */
const UPDATE_NS: u64 = 2_228_000;

@unmanaged
export class Vrtc {
  /** Guest time = time of day + this, in seconds (two's complement). */
  offset: u64;
  /** While B_SET freezes the registers: the frozen second. */
  frozen: u64;
  /** Guest second up to which update and alarm flags were computed. */
  seenSecond: u64;
  /** Host TSC of the last periodic event that was accounted for. */
  periodStart: u64;
  /** Host TSC of the next enabled event; 0: none. */
  deadline: u64;
  index: u32;
  flags: u32;
}
const CMOS: usize = offsetof<Vrtc>();
const CMOS_BYTES: usize = 128;

/** Gives the VM its clock. NO_MEMORY if the arena is full. */
export function createVrtc(vm: Vm): Status {
  vm.vrtc = arenaAlloc(vm, CMOS + CMOS_BYTES, 8);
  if (!vm.vrtc) return Status.NO_MEMORY;
  resetVrtc(vm);
  return Status.OK;
}

/** A reset: the time that the guest set and its own bytes survive, as a battery would keep them. */
export function resetVrtc(vm: Vm): void {
  const r = changetype<Vrtc>(vm.vrtc);
  const now = rdtsc();
  r.index = 0;
  r.flags = 0;
  r.deadline = 0;
  r.periodStart = now;
  put(r, Reg.A, 0x26); // 32768 Hz base, 1024 Hz rate
  put(r, Reg.B, B_24_HOURS);
  putMemorySizes(r, vm.memoryBytes);
  put(r, 0x14, 0x04); // equipment: no floppy, display from its ROM, pointing device
  put(r, 0x5f, vm.vcpuCount ? vm.vcpuCount - 1 : 0);
  r.seenSecond = guestSecond(r, now);
}

/** Where PC firmware looks for the size of memory. */
function putMemorySizes(r: Vrtc, bytes: u64): void {
  const low = min<u64>(bytes, 0xc000_0000);
  const above1M = low > 0x10_0000 ? min<u64>((low - 0x10_0000) >> 10, 0xffff) : 0;
  const above16M = low > 0x100_0000 ? min<u64>((low - 0x100_0000) >> 16, 0xffff) : 0;
  const above4G = bytes > low ? min<u64>((bytes - low) >> 16, 0xff_ffff) : 0;
  put16(r, 0x15, 640);
  put16(r, 0x17, <u32>above1M);
  put16(r, 0x30, <u32>above1M);
  put16(r, 0x34, <u32>above16M);
  put16(r, 0x5b, <u32>above4G);
  put(r, 0x5d, <u32>(above4G >> 16));
}

function get(r: Vrtc, index: u32): u32 {
  return load<u8>(changetype<usize>(r) + CMOS + index);
}

function put(r: Vrtc, index: u32, value: u32): void {
  store<u8>(changetype<usize>(r) + CMOS + index, value);
}

function put16(r: Vrtc, index: u32, value: u32): void {
  put(r, index, value & 0xff);
  put(r, index + 1, value >> 8);
}

// ---- Time in registers

function isFrozen(r: Vrtc): bool {
  return (get(r, Reg.B) & B_SET) != 0;
}

/** Divider bits 6..4 of register A are 010 when the clock runs. */
function isCounting(r: Vrtc): bool {
  return (get(r, Reg.A) & 0x70) == 0x20;
}

function guestSecond(r: Vrtc, tsc: u64): u64 {
  if (isFrozen(r)) return r.frozen;
  return timeOfDayAt(tsc) / NS_PER_SECOND + r.offset;
}

/** A number as the data mode shows it. */
function encode(r: Vrtc, n: u32): u32 {
  return get(r, Reg.B) & B_BINARY ? n : ((n / 10) << 4) | (n % 10);
}

function decode(r: Vrtc, value: u32): u32 {
  return get(r, Reg.B) & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

function encodeHour(r: Vrtc, hour: u32): u32 {
  if (get(r, Reg.B) & B_24_HOURS) return encode(r, hour);
  const twelve = hour % 12;
  return encode(r, twelve ? twelve : 12) | (hour >= 12 ? PM : 0);
}

function decodeHour(r: Vrtc, value: u32): u32 {
  if (get(r, Reg.B) & B_24_HOURS) return decode(r, value);
  const hour = decode(r, value & ~PM) % 12;
  return value & PM ? hour + 12 : hour;
}

/** Date and time register `index` at guest second `second`. */
function timeRegister(r: Vrtc, index: u32, second: u64): u32 {
  const days = <u32>(second / DAY_SECONDS);
  const inDay = <u32>(second % DAY_SECONDS);
  const date = dateFromDays(days);
  switch (index) {
    case Reg.SECONDS:
      return encode(r, inDay % 60);
    case Reg.MINUTES:
      return encode(r, (inDay / 60) % 60);
    case Reg.HOURS:
      return encodeHour(r, inDay / 3600);
    case Reg.WEEKDAY:
      return encode(r, ((days + 4) % 7) + 1); // 1970-01-01 was a Thursday; Sunday is 1
    case Reg.DAY:
      return encode(r, date & 0xff);
    case Reg.MONTH:
      return encode(r, (date >> 8) & 0xff);
    case Reg.YEAR:
      return encode(r, (date >> 16) % 100);
    default:
      return encode(r, (date >> 16) / 100);
  }
}

function isTimeRegister(index: u32): bool {
  return index <= 9 ? !(index & 1) || index >= 6 : index == <u32>Reg.CENTURY;
}

/** Puts the second into the registers, where a write can change one of them. */
function spill(r: Vrtc, second: u64): void {
  for (let i: u32 = 0; i <= 9; i++) if (isTimeRegister(i)) put(r, i, timeRegister(r, i, second));
  put(r, Reg.CENTURY, timeRegister(r, Reg.CENTURY, second));
}

/** The second that the registers say. Values out of range are carried, as counters would not; nobody relies on them. */
function gather(r: Vrtc): u64 {
  const century = decode(r, get(r, Reg.CENTURY));
  const year = century * 100 + decode(r, get(r, Reg.YEAR));
  const month = decode(r, get(r, Reg.MONTH));
  const days = daysFromDate(
    max(year, <u32>1970),
    min(max(month, <u32>1), <u32>12),
    max(decode(r, get(r, Reg.DAY)), <u32>1),
  );
  const inDay =
    decodeHour(r, get(r, Reg.HOURS)) * 3600 + decode(r, get(r, Reg.MINUTES)) * 60 + decode(r, get(r, Reg.SECONDS));
  return <u64>days * DAY_SECONDS + <u64>inDay;
}

/** A write to a date or time register: it takes effect at once, or when B_SET is cleared. */
function writeTime(r: Vrtc, index: u32, value: u32, now: u64): void {
  const second = guestSecond(r, now);
  if (!isFrozen(r)) spill(r, second);
  put(r, index, value);
  const wanted = gather(r);
  if (isFrozen(r)) r.frozen = wanted;
  else setSecond(r, wanted, now);
}

function setSecond(r: Vrtc, second: u64, now: u64): void {
  r.offset = second - timeOfDayAt(now) / NS_PER_SECOND;
  r.seenSecond = second;
}

// ---- Flags and IRQ 8

/** Periodic rate in 32768 Hz ticks; 0: off. Register A, bits 3..0. */
function periodTicks(r: Vrtc): u64 {
  const rate = get(r, Reg.A) & 15;
  if (!rate || !isCounting(r)) return 0;
  return (<u64>1) << (rate <= 2 ? rate + 6 : rate - 1);
}

/** Sets the flags of what has happened since the last look. */
function catchUp(r: Vrtc, now: u64): void {
  const period = periodTicks(r);
  if (period) {
    const passed = clockTicks(now - r.periodStart, RTC_HZ) / period;
    if (passed) {
      r.flags |= FLAG_PERIODIC;
      r.periodStart += mulDiv(passed * period, tscHz(), RTC_HZ);
    }
  }
  if (isFrozen(r) || !isCounting(r)) return;
  const second = guestSecond(r, now);
  if (second == r.seenSecond) return;
  r.flags |= FLAG_UPDATE;
  if (nextAlarm(r, r.seenSecond) <= second) r.flags |= FLAG_ALARM;
  r.seenSecond = second;
}

/** The next guest second after `after` at which the alarm registers match; ~0 if they never do. */
function nextAlarm(r: Vrtc, after: u64): u64 {
  const hourReg = get(r, Reg.HOURS_ALARM);
  const minuteReg = get(r, Reg.MINUTES_ALARM);
  const secondReg = get(r, Reg.SECONDS_ALARM);
  const anyHour = hourReg >= DONT_CARE;
  const anyMinute = minuteReg >= DONT_CARE;
  const anySecond = secondReg >= DONT_CARE;
  const hour: u64 = decodeHour(r, hourReg);
  const minute: u64 = decode(r, minuteReg);
  const second: u64 = decode(r, secondReg);
  if ((!anyHour && hour > 23) || (!anyMinute && minute > 59) || (!anySecond && second > 59)) return ~(<u64>0);
  let t = after + 1;
  // Each step goes to the start of the next hour, minute or second that fits; a few of them suffice.
  for (let step = 0; step < 8; step++) {
    const h = (t / HOURS_WORD) % 24;
    const m = (t / 60) % 60;
    const s = t % 60;
    if (!anyHour && h != hour) t = t - (t % HOURS_WORD) + ((hour + 24 - h) % 24) * HOURS_WORD;
    else if (!anyMinute && m != minute) t = t - s + ((minute + 60 - m) % 60) * 60;
    else if (!anySecond && s != second) t += (second + 60 - s) % 60;
    else return t;
  }
  return ~(<u64>0);
}

/** IRQF and the line follow the flags that register B enables. */
function updateLine(vm: Vm, r: Vrtc): void {
  const asserted = (r.flags & get(r, Reg.B) & 0x70) != 0;
  r.flags = asserted ? r.flags | FLAG_IRQ : r.flags & ~FLAG_IRQ;
  setIrq(vm, IRQ_RTC, asserted);
}

/** The next enabled event. While IRQF waits to be read there is none: it would change nothing. */
function schedule(r: Vrtc, now: u64): void {
  const enabled = get(r, Reg.B) & 0x70;
  r.deadline = 0;
  if (!enabled || r.flags & FLAG_IRQ) return;
  let next = ~(<u64>0);
  const period = periodTicks(r);
  if (enabled & FLAG_PERIODIC && period) next = r.periodStart + tscTicks(period, RTC_HZ);
  if (!isFrozen(r) && isCounting(r)) {
    if (enabled & FLAG_UPDATE) next = min(next, tscOfSecond(r, r.seenSecond + 1, now));
    if (enabled & FLAG_ALARM) next = min(next, tscOfSecond(r, nextAlarm(r, r.seenSecond), now));
  }
  if (next != ~(<u64>0)) r.deadline = next;
}

/** Host TSC at which guest second `second` begins; ~0 for never. */
function tscOfSecond(r: Vrtc, second: u64, now: u64): u64 {
  if (second == ~(<u64>0)) return second;
  const target = (second - r.offset) * NS_PER_SECOND;
  const here = timeOfDayAt(now);
  return target <= here ? now : now + tscTicks(target - here, NS_PER_SECOND);
}

/** Host TSC of the clock's next interrupt; ~0 if none. */
export function rtcDeadline(vm: Vm): u64 {
  const deadline = vm.vrtc ? changetype<Vrtc>(vm.vrtc).deadline : 0;
  return deadline ? deadline : ~(<u64>0);
}

/** Raises IRQ 8 if it is due. Under the VM's device lock. */
export function expireRtc(vm: Vm, now: u64): void {
  const r = changetype<Vrtc>(vm.vrtc);
  if (!r.deadline || r.deadline > now) return;
  look(vm, r, now);
}

function look(vm: Vm, r: Vrtc, now: u64): void {
  catchUp(r, now);
  updateLine(vm, r);
  reschedule(vm, r, now);
}

/** The run loop of vCPU 0 sets the host's timer anew when the next event has moved. */
function reschedule(vm: Vm, r: Vrtc, now: u64): void {
  const before = r.deadline;
  schedule(r, now);
  if (r.deadline != before) request(vcpuOf(vm, 0), Pending.TIMER);
}

// ---- Ports

/** IN from 70H (nothing to read) or 71H. */
export function readRtc(vm: Vm, port: u32): u32 {
  if (!(port & 1)) return 0xff;
  const r = changetype<Vrtc>(vm.vrtc);
  const now = rdtsc();
  if (isTimeRegister(r.index)) return isFrozen(r) ? get(r, r.index) : timeRegister(r, r.index, guestSecond(r, now));
  switch (r.index) {
    case Reg.A:
      return get(r, Reg.A) | (isUpdating(r, now) ? A_UIP : 0);
    case Reg.C:
      return readFlags(vm, r, now);
    case Reg.D:
      return D_VALID;
    default:
      return get(r, r.index);
  }
}

function isUpdating(r: Vrtc, now: u64): bool {
  return !isFrozen(r) && isCounting(r) && timeOfDayAt(now) % NS_PER_SECOND >= NS_PER_SECOND - UPDATE_NS;
}

/** Register C: reading clears the flags and lowers the line. */
function readFlags(vm: Vm, r: Vrtc, now: u64): u32 {
  catchUp(r, now);
  updateLine(vm, r);
  const flags = r.flags;
  r.flags = 0;
  setIrq(vm, IRQ_RTC, false);
  reschedule(vm, r, now);
  return flags;
}

/** OUT to 70H (index; bit 7, the NMI mask, does nothing) or 71H. */
export function writeRtc(vm: Vm, port: u32, value: u32): void {
  const r = changetype<Vrtc>(vm.vrtc);
  if (!(port & 1)) {
    r.index = value & 0x7f;
    return;
  }
  const now = rdtsc();
  if (isTimeRegister(r.index)) writeTime(r, r.index, value, now);
  else if (r.index == <u32>Reg.B) writeB(r, value, now);
  else if (r.index == <u32>Reg.A) writeA(r, value & ~A_UIP, now);
  else if (r.index != <u32>Reg.C && r.index != <u32>Reg.D) put(r, r.index, value);
  look(vm, r, now);
}

function writeA(r: Vrtc, value: u32, now: u64): void {
  catchUp(r, now);
  put(r, Reg.A, value);
  r.periodStart = now;
}

/** Setting B_SET freezes the registers, clearing it starts the clock from them. A mode change re-encodes nothing, as on the chip. */
function writeB(r: Vrtc, value: u32, now: u64): void {
  catchUp(r, now);
  const was = isFrozen(r);
  const second = guestSecond(r, now);
  if (!was && value & B_SET) {
    spill(r, second);
    r.frozen = second;
  }
  // SET inhibits the update interrupt.
  put(r, Reg.B, value & B_SET ? value & ~FLAG_UPDATE : value);
  if (was) {
    if (value & B_SET) r.frozen = gather(r);
    else setSecond(r, gather(r), now);
  }
}
