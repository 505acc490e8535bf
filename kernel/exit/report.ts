// What the log says when a guest is stopped: where it was, what it did, why it cannot go on.

import { begin, bytes, dec, end, hex, Level, str } from "../lib/log";
import { Segment } from "../vcpu/exit";
import { Gpr, Vcpu } from "../vcpu/vcpu";
import {
  readCr0,
  readCr3,
  readCr4,
  readEfer,
  readGpr,
  readQualification,
  readRflags,
  readRip,
  readSegmentBase,
} from "../vendor";
import { LapicReg } from "../virq/lapicreg";
import { highest, isX2apic, vlapicOf } from "../virq/vlapic";
import { fetchInstruction } from "./fetch";
import { is64 } from "./linear";

const NAMES: usize = memory.data<u8>([
  0x61, 0x78, 0x63, 0x78, 0x64, 0x78, 0x62, 0x78, 0x73, 0x70, 0x62, 0x70, 0x73, 0x69, 0x64, 0x69,
]); // ax cx dx bx sp bp si di

/** Logs the vCPU's state; `why` is a sentence without a full stop. */
export function report(vcpu: Vcpu, why: string): void {
  line(vcpu);
  str(why);
  end();
  line(vcpu);
  str("exit ");
  dec(vcpu.exitReason);
  str(" qualification ");
  hex(readQualification());
  str(" gpa ");
  hex(vcpu.exitGpa);
  end();
  controlRegisters(vcpu);
  apic(vcpu);
  for (let i: u32 = 0; i < 16; i += 4) generalRegisters(vcpu, i);
  instructionBytes(vcpu);
}

function line(vcpu: Vcpu): void {
  begin(Level.ERROR, "vm");
  bytes(vcpu.vm.name, vcpu.vm.nameBytes);
  str(" vcpu ");
  dec(vcpu.index);
  str(": ");
}

/** The highest vectors that wait and are served, as the local APIC's page has them. */
function apic(vcpu: Vcpu): void {
  const v = vlapicOf(vcpu);
  line(vcpu);
  str(isX2apic(v) ? "x2APIC request " : "xAPIC request ");
  hex(highest(v, LapicReg.IRR));
  str(" in service ");
  hex(highest(v, LapicReg.ISR));
  str(" pending ");
  hex(vcpu.pending);
  str(" state ");
  dec(vcpu.state);
  end();
}

function controlRegisters(vcpu: Vcpu): void {
  line(vcpu);
  str("rip ");
  hex(readRip());
  str(" cs base ");
  hex(readSegmentBase(Segment.CS));
  str(" rflags ");
  hex(readRflags());
  end();
  line(vcpu);
  str("cr0 ");
  hex(readCr0());
  str(" cr3 ");
  hex(readCr3(vcpu));
  str(" cr4 ");
  hex(readCr4());
  str(" efer ");
  hex(readEfer(vcpu));
  end();
}

function generalRegisters(vcpu: Vcpu, first: u32): void {
  line(vcpu);
  for (let i = first; i < first + 4; i++) {
    if (i <= <u32>Gpr.RDI) {
      str("r");
      bytes(NAMES + ((<usize>i) << 1), 2);
    } else {
      str("r");
      dec(i);
    }
    str(" ");
    hex(readGpr(vcpu, i));
    str(" ");
  }
  end();
}

function instructionBytes(vcpu: Vcpu): void {
  const got = fetchInstruction(vcpu, vcpu.scratch, is64());
  line(vcpu);
  str("instruction");
  for (let i: u32 = 0; i < got; i++) {
    str(" ");
    hex(load<u8>(vcpu.scratch + i));
  }
  if (!got) str(" bytes are not in memory");
  end();
}
