// PAE paging's four page-directory-pointer entries: the processor holds them in registers, loaded with
// CR3 and with some changes of CR0 and CR4. Intel SDM Vol. 3, "PDPTE Registers".

import { bytesAt, loadGuest } from "../mm/guestmem";
import { GuestPaging } from "../mm/gva";
import { Vcpu } from "../vcpu/vcpu";
import { ramOf } from "../vcpu/vm";
import { writePdpte } from "../vendor";

const PRESENT: u64 = 1;
/** Bits 2:1 and 8:5 are reserved, and so is everything above the physical-address width. */
const RESERVED_LOW: u64 = 0x1e6;

/** Loads the four entries at `cr3`. False: one has a reserved bit; nothing changed, and the cause takes #GP(0). */
export function loadPdptes(vcpu: Vcpu, cr3: u64): bool {
  const table = cr3 & 0xffff_ffe0;
  const physBits = <u64>changetype<GuestPaging>(vcpu.paging).physBits;
  const reserved = RESERVED_LOW | ~(((<u64>1) << physBits) - 1);
  for (let i: u32 = 0; i < 4; i++) {
    const entry = entryAt(vcpu, table, i);
    if ((entry & PRESENT) != 0 && (entry & reserved) != 0) return false;
    store<u64>(vcpu.scratch + ((<usize>i) << 3), entry);
  }
  for (let i: u32 = 0; i < 4; i++) writePdpte(i, load<u64>(vcpu.scratch + ((<usize>i) << 3)));
  return true;
}

/** Outside of memory: all ones, which has reserved bits. */
function entryAt(vcpu: Vcpu, table: u64, index: u32): u64 {
  const gpa = table + ((<u64>index) << 3);
  return bytesAt(ramOf(vcpu.vm), gpa) < 8 ? u64.MAX_VALUE : loadGuest(gpa, 8);
}
