// IN, OUT, INS and OUTS. The processor has checked IOPL and the TSS's bitmap before it exits.
// Intel SDM Vol. 3, "Exit Qualification for I/O Instructions".

import { PortAccess } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import { advance, decodePort } from "../vendor";
import { portRead, portWrite } from "../vdev/bus";
import { onStringPort } from "./stringio";

export function onPort(vcpu: Vcpu): void {
  const port = decodePort(vcpu);
  const access = vcpu.exitAccess;
  if ((access & PortAccess.STRING) != 0) {
    onStringPort(vcpu, port, access);
    return;
  }
  const bytes = access & PortAccess.SIZE_MASK;
  if ((access & PortAccess.IN) != 0) vcpu.rax = merge(vcpu.rax, portRead(vcpu, port, bytes), bytes);
  else portWrite(vcpu, port, bytes, <u32>vcpu.rax); // which takes the low `bytes`
  advance(vcpu);
}

/** What a write of `bytes` leaves in a register: 32 bits clear the upper half. */
export function merge(old: u64, value: u64, bytes: u32): u64 {
  if (bytes == 4) return value & 0xffff_ffff;
  if (bytes == 2) return (old & ~(<u64>0xffff)) | (value & 0xffff);
  if (bytes == 1) return (old & ~(<u64>0xff)) | (value & 0xff);
  return value;
}
