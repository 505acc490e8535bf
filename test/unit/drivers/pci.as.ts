// What the tests of drivers/pci.ts call.
import * as platform from "../../../drivers/platform";
import * as p from "../../../drivers/pci";

export { barBase, barBytes, count, functionAt, report, start } from "../../../drivers/pci";

export function reset(): void {
  platform.clear(0);
}
export function field(index: u32, which: u32): u32 {
  const f = p.functionAt(index);
  return which == 0
    ? f.address
    : which == 1
      ? f.id
      : which == 2
        ? f.classCode
        : which == 3
          ? f.headerType
          : which == 4
            ? f.capabilities
            : f.bars;
}
