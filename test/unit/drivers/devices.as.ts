// What the tests of the machine's devices call: boot information and the final address space come first,
// the platform's fields are set by the test.
import { bootInfo } from "../../../drivers/bootinfo";
import { readBootInfo } from "../../../drivers/bootload";
import * as c from "../../../drivers/calibrate";
import * as console from "../../../drivers/console";
import * as f from "../../../drivers/fault";
import * as io from "../../../drivers/ioapic";
import * as i from "../../../drivers/irq";
import * as l from "../../../drivers/lapic";
import * as pc from "../../../drivers/pic";
import * as p from "../../../drivers/platform";
import * as pw from "../../../drivers/power";
import * as s from "../../../drivers/screen";
import * as u from "../../../drivers/uart";
import { startMemory } from "../../../kernel/boot/memory";
import * as apic from "../../../kernel/cpu/apic";
import { detectFeatures } from "../../../kernel/cpu/feature";
import { initBlock, scratch } from "../../../kernel/cpu/percpu";
import * as timer from "../../../kernel/cpu/timer";
import * as trap from "../../../kernel/cpu/trap";
import * as tsc from "../../../kernel/cpu/tsc";
import { mapFirmware as map } from "../../../kernel/mm/hostmap";
import * as cmdline from "../../../kernel/lib/cmdline";
import * as log from "../../../kernel/lib/log";

export function start(magic: u32, info: u64): u32 {
  initBlock(0, 0);
  detectFeatures(scratch());
  p.clear(0);
  const status = readBootInfo(magic, info);
  cmdline.parse(bootInfo().commandLine, bootInfo().commandLineBytes);
  return status ? status : startMemory();
}
export function mapFirmware(pa: u64, bytes: u64): u32 {
  return map(pa, bytes);
}
export function platformAt(): usize {
  return changetype<usize>(p.platform());
}
export function addIoapic(id: u32, base: u64, gsi: u32): void {
  p.addIoapic(id, base, gsi);
}
export function addOverride(source: u32, gsi: u32, flags: u32): void {
  p.addOverride(source, gsi, flags);
}
export function addNmi(uid: u32, lint: u32, flags: u32): void {
  p.addNmi(uid, lint, flags);
}
export function calibrate(): u32 {
  return c.calibrate();
}
export function tscKhz(): u64 {
  return tsc.tscKhz();
}
export function setKhz(khz: u64): void {
  tsc.setKhz(khz);
}
export function startLapic(): u32 {
  return l.start();
}
export function startLapicHere(): void {
  l.startCpu();
}
export function isX2apic(): bool {
  return apic.isX2apic();
}
export function lapicRead(register: u32): u32 {
  return apic.read(<apic.Reg>register);
}
export function chooseTimer(): void {
  l.chooseTimer();
}
export function timerMode(): u32 {
  return timer.modeOf();
}
export function arm(key: u64, deadline: u64): u32 {
  return timer.arm(key, deadline);
}
export function takeExpired(): u64 {
  return timer.takeExpired();
}
export function startIoapics(): void {
  io.start();
}
export function routeIsa(irq: u32, vector: u32, apicId: u32): u32 {
  return io.routeIsa(irq, vector, apicId);
}
export function route(gsi: u32, vector: u32, apicId: u32, flags: u32): u32 {
  return io.route(gsi, vector, apicId, flags);
}
export function mask(gsi: u32): void {
  io.mask(gsi);
}
export function disablePic(): void {
  pc.disable();
}
export function openUart(): i32 {
  return u.open(0x3f8, false, 0, 115200);
}
export function startUart(apicId: u32): u32 {
  return i.startUart(0, apicId);
}
export function getByte(): i32 {
  return u.get(u.uartAt(0));
}
export function takeAttention(): bool {
  return i.takeAttention();
}
export function onInterrupt(vector: u32): void {
  i.dispatch(vector);
}
export function countOf(vector: u32): u64 {
  return i.countOf(vector);
}
export function reportErrors(): void {
  i.reportErrors();
}
export function openScreen(): u32 {
  return s.open();
}
export function putScreen(code: u32): void {
  s.put(code);
}
export function reboot(): void {
  pw.reboot();
}
export function powerOff(): void {
  pw.powerOff();
}
export function finish(outcome: u32): void {
  pw.finish(outcome);
}
export function openConsole(): void {
  console.open();
}
export function say(number: u32): void {
  log.begin(log.Level.INFO, "test");
  log.dec(number);
  log.end();
}
export function onException(frame: usize): void {
  f.onException(frame);
}
export function onNmi(frame: usize): void {
  f.onNmi(frame);
}
export function onMachineCheck(frame: usize): void {
  f.onMachineCheck(frame);
}
export function reportNoted(): void {
  trap.reportNoted();
}
export function injectAsked(cpu: u32): void {
  f.injectAsked(cpu);
}
export function contain(on: bool): void {
  if (on) trap.enterContained();
  else trap.leaveContained();
}
