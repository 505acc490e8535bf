// What the tests of the boot information call.
export { readBootInfo } from "../../../drivers/bootload";
export { bootInfo, moduleAt, regionAt, report, usableBytes } from "../../../drivers/bootinfo";
