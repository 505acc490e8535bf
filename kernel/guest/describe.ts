// From the strings of the boot modules to guests. A module is a guest's kernel or belongs to one:
//
//   [FILE] guest=NAME [memory=64M] [cpus=2] [protocol=auto|linux|pvh|multiboot|flat] [weight=100] [cap=50]
//          [pin=CPU[+CPU]...] [without=FEATURE[+FEATURE]...] [test=on|off] [restart=on|off] [cmdline=REST]
//   [FILE] initrd=NAME          the initrd of guest NAME
//   [FILE] module=NAME [cmdline=REST]   a further module of guest NAME, with its string
//
// `cmdline=` is the last word and takes all that follows, blanks included. docs/guests.md is the reference.

import { bootInfo, BootModule, moduleAt } from "../../drivers/bootinfo";
import { numberLength, parseNumber, same } from "../lib/cmdline";
import * as log from "../lib/log";
import { MAX_VCPUS, Without } from "../vcpu/vm";
import {
  Choice,
  clearConfig,
  configAt,
  GuestConfig,
  GuestModule,
  guestModuleAt,
  MAX_GUEST_MODULES,
  MAX_GUESTS,
  Protocol,
} from "./config";

const MIB: u64 = 0x10_0000;
const DEFAULT_MEMORY: u64 = 128 * MIB;
const MOST_MEMORY: u64 = (<u64>1) << 44;
const NAME_BYTES: u32 = 32;

let guestCount: u32 = 0; // written at boot
let complaints: u32 = 0; // [boot CPU only]

/** Number of guests that the modules describe; configAt has them. */
export function countGuests(): u32 {
  return guestCount;
}

/** Number of module strings that describeGuests() could not follow. */
export function countComplaints(): u32 {
  return complaints;
}

/** Reads all module strings. A guest whose description is wrong is left out, with one line that says why. */
export function describeGuests(): void {
  guestCount = 0;
  complaints = 0;
  for (let i: u32 = 0; i < bootInfo().moduleCount; i++) describeKernel(moduleAt(i));
  for (let i: u32 = 0; i < bootInfo().moduleCount; i++) describeModule(moduleAt(i));
}

// ---- Words

/** One word of a module string: name=value. */
@unmanaged
class Word {
  name: usize;
  value: usize;
  nameBytes: u32;
  valueBytes: u32;
}
const theWord: usize = memory.data(16, 8); // [boot CPU only]

function isBlank(code: u32): bool {
  return code == 0x20 || code == 9;
}

/** Reads the word at `at` into theWord; returns the position after it, or 0 at the end. */
function nextWord(module: BootModule, at: u32): u32 {
  const word = changetype<Word>(theWord);
  const end = module.textBytes;
  while (at < end && isBlank(load<u8>(module.text + at))) at++;
  if (at >= end) return 0;
  word.name = module.text + at;
  const start = at;
  while (at < end && !isBlank(load<u8>(module.text + at)) && load<u8>(module.text + at) != 0x3d) at++;
  word.nameBytes = at - start;
  if (at < end && load<u8>(module.text + at) == 0x3d) at++;
  word.value = module.text + at;
  const rest = same(word.name, word.nameBytes, "cmdline");
  const valueStart = at;
  while (at < end && (rest || !isBlank(load<u8>(module.text + at)))) at++;
  word.valueBytes = at - valueStart;
  return at;
}

function isNamed(name: string): bool {
  const word = changetype<Word>(theWord);
  return same(word.name, word.nameBytes, name);
}

/** The value of word `name` into theWord; false if the module has none. */
function find(module: BootModule, name: string): bool {
  for (let at = nextWord(module, 0); at; at = nextWord(module, at)) if (isNamed(name)) return true;
  return false;
}

// ---- Complaints

function complain(module: BootModule, reason: string): bool {
  complaints++;
  const word = changetype<Word>(theWord);
  log.begin(log.Level.ERROR, "guest");
  log.str("a guest is left out: ");
  log.str(reason);
  log.str(" in '");
  log.bytes(word.name, min(word.nameBytes, 32));
  if (word.valueBytes) {
    log.char(0x3d);
    log.bytes(word.value, min(word.valueBytes, 48));
  }
  log.str("' of '");
  log.bytes(module.text, min(module.textBytes, 64));
  log.str("'");
  log.end();
  return false;
}

// ---- Kernels

function describeKernel(module: BootModule): void {
  if (!find(module, "guest")) return;
  const word = changetype<Word>(theWord);
  if (word.valueBytes == 0 || word.valueBytes > NAME_BYTES) {
    complain(module, "a name has 1 to 32 characters");
    return;
  }
  if (findGuest(word.value, word.valueBytes)) {
    complain(module, "two guests have one name");
    return;
  }
  if (guestCount == MAX_GUESTS) {
    complain(module, "more than 64 guests");
    return;
  }
  const config = configAt(guestCount);
  clearConfig(config);
  config.pa = module.base;
  config.bytes = module.bytes;
  config.name = word.value;
  config.nameBytes = word.valueBytes;
  config.memoryBytes = DEFAULT_MEMORY;
  config.cpus = 1;
  config.weight = 100;
  if (readWords(module, config)) guestCount++;
}

/** The configuration with this name, or 0. */
function findGuest(name: usize, bytes: u32): usize {
  for (let i: u32 = 0; i < guestCount; i++) {
    const config = configAt(i);
    if (config.nameBytes == bytes && memory.compare(config.name, name, bytes) == 0) return changetype<usize>(config);
  }
  return 0;
}

function readWords(module: BootModule, config: GuestConfig): bool {
  let first = true;
  for (let at = nextWord(module, 0); at; at = nextWord(module, at)) {
    const path = first && changetype<Word>(theWord).valueBytes == 0;
    first = false;
    if (!path && !readWord(module, config)) return false;
  }
  return true;
}

function readWord(module: BootModule, config: GuestConfig): bool {
  const word = changetype<Word>(theWord);
  if (isNamed("guest")) return true;
  if (isNamed("memory")) return readMemory(module, config);
  if (isNamed("cpus")) {
    config.cpus = <u32>number(1, MAX_VCPUS);
    return config.cpus ? true : complain(module, "a guest has 1 to 16 vCPUs");
  }
  if (isNamed("weight")) {
    config.weight = <u32>number(1, 10000);
    return config.weight ? true : complain(module, "a weight is 1 to 10000");
  }
  if (isNamed("cap")) {
    config.cap = <u32>number(1, 100);
    return config.cap ? true : complain(module, "a cap is 1 to 100 percent");
  }
  if (isNamed("protocol")) return readProtocol(module, config);
  if (isNamed("pin")) return readPin(module, config);
  if (isNamed("without")) return readWithout(module, config);
  if (isNamed("test")) {
    config.testPorts = choice();
    return config.testPorts ? true : complain(module, "expected on or off");
  }
  if (isNamed("restart")) {
    config.restart = choice();
    return config.restart ? true : complain(module, "expected on or off");
  }
  if (isNamed("cmdline")) {
    config.commandLine = word.value;
    config.commandLineBytes = word.valueBytes;
    return true;
  }
  return complain(module, "unknown word");
}

/** The value as a number from `least` to `most`; 0 if it is none. */
function number(least: u64, most: u64): u64 {
  const word = changetype<Word>(theWord);
  if (!word.valueBytes || numberLength(word.value, word.valueBytes) != word.valueBytes) return 0;
  const value = parseNumber(word.value, word.valueBytes);
  return value >= least && value <= most ? value : 0;
}

function choice(): u32 {
  const word = changetype<Word>(theWord);
  if (same(word.value, word.valueBytes, "on")) return Choice.ON;
  return same(word.value, word.valueBytes, "off") ? Choice.OFF : Choice.AUTO;
}

/** 64M, 2G, or a number of bytes; rounded up to 2 MiB. */
function readMemory(module: BootModule, config: GuestConfig): bool {
  const word = changetype<Word>(theWord);
  const digits = numberLength(word.value, word.valueBytes);
  if (!digits || word.valueBytes > digits + 1) return complain(module, "memory is a number with K, M or G");
  let value = parseNumber(word.value, digits);
  if (word.valueBytes > digits) {
    const unit = load<u8>(word.value + digits) | 0x20;
    const shift: u64 = unit == 0x6b ? 10 : unit == 0x6d ? 20 : unit == 0x67 ? 30 : 0;
    if (!shift) return complain(module, "memory is a number with K, M or G");
    value = value > MOST_MEMORY >> shift ? MOST_MEMORY + 1 : value << shift;
  }
  if (value < 2 * MIB || value > MOST_MEMORY) return complain(module, "a guest has 2 MiB to 16 TiB");
  config.memoryBytes = (value + 2 * MIB - 1) & ~(2 * MIB - 1);
  return true;
}

function readProtocol(module: BootModule, config: GuestConfig): bool {
  const word = changetype<Word>(theWord);
  if (same(word.value, word.valueBytes, "auto")) config.protocol = Protocol.AUTO;
  else if (same(word.value, word.valueBytes, "linux")) config.protocol = Protocol.LINUX;
  else if (same(word.value, word.valueBytes, "pvh")) config.protocol = Protocol.PVH;
  else if (same(word.value, word.valueBytes, "multiboot")) config.protocol = Protocol.MULTIBOOT;
  else if (same(word.value, word.valueBytes, "flat")) config.protocol = Protocol.FLAT;
  else return complain(module, "a protocol is auto, linux, pvh, multiboot or flat");
  return true;
}

/** pin=0+2: CPU numbers with plus signs between. */
function readPin(module: BootModule, config: GuestConfig): bool {
  const word = changetype<Word>(theWord);
  let at: u32 = 0;
  while (at < word.valueBytes) {
    const digits = numberLength(word.value + at, word.valueBytes - at);
    const cpu = digits ? parseNumber(word.value + at, digits) : 64;
    if (cpu > 63) return complain(module, "pin names CPUs 0 to 63 with + between");
    config.pinMask |= (<u64>1) << cpu;
    at += digits;
    if (at < word.valueBytes && load<u8>(word.value + at) != 0x2b)
      return complain(module, "pin names CPUs 0 to 63 with + between");
    at++;
  }
  return config.pinMask ? true : complain(module, "pin names CPUs 0 to 63 with + between");
}

function readWithout(module: BootModule, config: GuestConfig): bool {
  const word = changetype<Word>(theWord);
  let at: u32 = 0;
  while (at < word.valueBytes) {
    let end = at;
    while (end < word.valueBytes && load<u8>(word.value + end) != 0x2b) end++;
    const bit = featureBit(word.value + at, end - at);
    if (!bit) return complain(module, "without names features with + between");
    config.without |= bit;
    at = end + 1;
  }
  return config.without ? true : complain(module, "without names features with + between");
}

function featureBit(name: usize, bytes: u32): u32 {
  if (same(name, bytes, "unrestricted")) return Without.UNRESTRICTED_GUEST;
  if (same(name, bytes, "vpid")) return Without.VPID;
  if (same(name, bytes, "timer")) return Without.PREEMPTION_TIMER;
  if (same(name, bytes, "apicv")) return Without.APIC_REGISTERS;
  if (same(name, bytes, "tpr")) return Without.TPR_SHADOW;
  if (same(name, bytes, "largepages")) return Without.LARGE_PAGES;
  if (same(name, bytes, "apicaccess")) return Without.APIC_ACCESS;
  return same(name, bytes, "eptad") ? Without.EPT_AD : 0;
}

// ---- Modules of guests

function describeModule(module: BootModule): void {
  const isInitrd = find(module, "initrd");
  if (!isInitrd && !find(module, "module")) return;
  const word = changetype<Word>(theWord);
  const found = findGuest(word.value, word.valueBytes);
  if (!found) {
    complain(module, "no guest has this name");
    return;
  }
  const config = changetype<GuestConfig>(found);
  if (config.moduleCount == MAX_GUEST_MODULES) {
    complain(module, "more than 8 modules for one guest");
    return;
  }
  const row = guestModuleAt(config, config.moduleCount++);
  row.pa = module.base;
  row.bytes = module.bytes;
  row.text = 0;
  row.textBytes = 0;
  if (find(module, "cmdline")) giveText(row);
}

function giveText(row: GuestModule): void {
  const word = changetype<Word>(theWord);
  row.text = word.value;
  row.textBytes = word.valueBytes;
}
