// Loads a guest: finds out its protocol, writes its ACPI tables, puts its parts into place, and leaves the
// state in which the first vCPU enters. Runs under the VM's HOST_CR3, for a new VM and after its reset.

import * as log from "../lib/log";
import { Status } from "../lib/status";
import { Vm, vcpuOf } from "../vcpu/vm";
import { writeAcpi } from "./acpi";
import { isBzImage, loadBzImage } from "./bzimage";
import { Choice, GuestConfig, Protocol } from "./config";
import { isElf } from "./elf";
import { leaveFirmware, wireInterrupts } from "./firmware";
import { isBootSector, loadFlat } from "./flat";
import { Image } from "./image";
import { findMultiboot, loadMultiboot } from "./multiboot";
import { beginPlan, entryOf, EntryMode, imageOf, Plan, refuse } from "./plan";
import { loadPvh } from "./pvh";

const TWO_MIB: u64 = 0x20_0000;

/** The guest's files must be readable through the device window; its RAM slots exist. BAD_FORMAT after one line that says why. */
export function loadGuest(vm: Vm, config: GuestConfig): Status {
  const plan = beginPlan(vm, config);
  if (vm.memoryBytes < TWO_MIB) return refuse(plan, "a guest needs at least 2 MiB");
  const protocol = config.protocol ? config.protocol : detect(plan);
  if (!protocol) return refuse(plan, "the file is no bzImage, no PVH or multiboot kernel and no boot sector");
  vm.bootProtocol = protocol;
  wireInterrupts(vm);
  if (protocol == Protocol.MULTIBOOT || protocol == Protocol.FLAT) leaveFirmware(vm);
  plan.rsdp = writeAcpi(vm);
  return loadAs(plan, protocol);
}

/** True if the guest starts in real mode: needs unrestricted guest. After loadGuest. */
export function startsInRealMode(vm: Vm): bool {
  return entryOf(changetype<Plan>(vcpuOf(vm, 0).scratch)).mode == EntryMode.REAL;
}

function detect(plan: Plan): u32 {
  const image = imageOf(plan);
  if (findMultiboot(image) >= 0) return Protocol.MULTIBOOT;
  if (isElf(image)) return Protocol.PVH;
  if (isBzImage(image)) return Protocol.LINUX;
  return isBootSector(image) ? Protocol.FLAT : Protocol.AUTO;
}

function loadAs(plan: Plan, protocol: u32): Status {
  switch (protocol) {
    case Protocol.LINUX:
      return loadBzImage(plan);
    case Protocol.PVH:
      return loadPvh(plan);
    case Protocol.MULTIBOOT:
      return loadMultiboot(plan);
    case Protocol.FLAT:
      return loadFlat(plan);
    default:
      return refuse(plan, "unknown protocol");
  }
}

/** Whether a guest of `config` gets the ports of vdev/vtest: by the operator's word, else all but Linux do. */
export function wantsTestPorts(config: GuestConfig): bool {
  if (config.testPorts != <u32>Choice.AUTO) return config.testPorts == <u32>Choice.ON;
  // A configuration begins like an Image: address and size of the file.
  return config.protocol == <u32>Protocol.AUTO
    ? !isBzImage(changetype<Image>(changetype<usize>(config)))
    : config.protocol != <u32>Protocol.LINUX;
}

/** One line on what was loaded and where. */
export function reportGuest(vm: Vm, config: GuestConfig): void {
  log.begin(log.Level.INFO, "guest");
  log.bytes(config.name, config.nameBytes);
  log.str(": ");
  log.str(protocolName(vm.bootProtocol));
  log.str(", ");
  log.size(vm.memoryBytes);
  log.str(", ");
  log.dec(vm.vcpuCount);
  log.str(vm.vcpuCount == 1 ? " vCPU" : " vCPUs");
  log.end();
}

function protocolName(protocol: u32): string {
  switch (protocol) {
    case Protocol.LINUX:
      return "Linux 64-bit boot protocol";
    case Protocol.PVH:
      return "PVH";
    case Protocol.MULTIBOOT:
      return "multiboot";
    default:
      return "flat";
  }
}
