// The FADT: the PM timer, the reset register and the power-off registers.
// ACPI Specification, "Fixed ACPI Description Table (FADT)".

import * as platform from "../platform";
import * as log from "../../kernel/lib/log";
import * as table from "./table";

/** Offsets. X_ fields hold a Generic Address Structure and win over the older ones. */
const enum At {
  DSDT = 40,
  SMI_CMD = 48,
  ACPI_ENABLE = 52,
  PM1A_CNT = 64,
  PM1B_CNT = 68,
  PM_TMR = 76,
  PM_TMR_LEN = 91,
  FLAGS = 112,
  RESET_REG = 116,
  RESET_VALUE = 128,
  X_DSDT = 140,
  X_PM1A_CNT = 172,
  X_PM1B_CNT = 184,
  X_PM_TMR = 208,
}

const enum Flag {
  TMR_VAL_EXT = 1 << 8, // the PM timer has 32 bits
  RESET_REG_SUP = 1 << 10,
  HW_REDUCED = 1 << 20,
}

const GAS_ADDRESS: u32 = 4; // its offset in a Generic Address Structure; the space is its first byte

export function read(fadt: table.Table): void {
  const p = platform.platform();
  const flags = table.get32(fadt, At.FLAGS);
  p.isHardwareReduced = u32((flags & Flag.HW_REDUCED) != 0);
  p.smiCommand = table.get32(fadt, At.SMI_CMD) & 0xffff;
  p.acpiEnable = table.get8(fadt, At.ACPI_ENABLE);
  p.pm1aControl = controlPort(fadt, At.X_PM1A_CNT, At.PM1A_CNT);
  p.pm1bControl = controlPort(fadt, At.X_PM1B_CNT, At.PM1B_CNT);
  readTimer(fadt, flags);
  readReset(fadt, flags);
  readDsdt(fadt);
}

/** A PM1 control block as a port; 0 if it is absent or not a port. */
function controlPort(fadt: table.Table, extended: u32, old: u32): u32 {
  const address = table.get64(fadt, extended + GAS_ADDRESS);
  if (address != 0 && table.get8(fadt, extended) == <u32>platform.Space.PORT && address < 0x1_0000) return <u32>address;
  const port = table.get32(fadt, old);
  return port < 0x1_0000 ? port : 0;
}

function readTimer(fadt: table.Table, flags: u32): void {
  const p = platform.platform();
  p.pmTimerBits = flags & Flag.TMR_VAL_EXT ? 32 : 24;
  const extended = table.get64(fadt, At.X_PM_TMR + GAS_ADDRESS);
  if (extended != 0) {
    const space = table.get8(fadt, At.X_PM_TMR);
    const isPort = space == <u32>platform.Space.PORT && extended < 0x1_0000;
    if (!isPort && space != <u32>platform.Space.MEMORY) return;
    p.pmTimerSpace = space;
    p.pmTimerAddress = extended;
    return;
  }
  const port = table.get32(fadt, At.PM_TMR);
  if (port == 0 || port >= 0x1_0000 || table.get8(fadt, At.PM_TMR_LEN) != 4) return;
  p.pmTimerSpace = platform.Space.PORT;
  p.pmTimerAddress = port;
}

function readReset(fadt: table.Table, flags: u32): void {
  const p = platform.platform();
  if (!(flags & Flag.RESET_REG_SUP) || !table.has(fadt, At.RESET_REG, 13)) return;
  const space = table.get8(fadt, At.RESET_REG);
  const address = table.get64(fadt, At.RESET_REG + GAS_ADDRESS);
  if (address == 0 || space > <u32>platform.Space.PORT) return;
  if (space == <u32>platform.Space.PORT && address >= 0x1_0000) return;
  p.resetSpace = space;
  p.resetAddress = address;
  p.resetValue = table.get8(fadt, At.RESET_VALUE);
}

/** Notes where the DSDT is: power-off looks for _S5_ in it. */
function readDsdt(fadt: table.Table): void {
  const extended = table.get64(fadt, At.X_DSDT);
  table.add(extended != 0 ? extended : <u64>table.get32(fadt, At.DSDT));
  const dsdt = table.find(table.Signature.DSDT);
  if (!changetype<usize>(dsdt)) {
    log.warn("acpi", "no DSDT: the machine cannot be powered off");
    return;
  }
  platform.platform().dsdt = dsdt.pa;
  platform.platform().dsdtBytes = dsdt.bytes;
}
