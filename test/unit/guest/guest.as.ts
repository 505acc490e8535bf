// What the tests of kernel/guest call: the modules themselves.
export { loadGuest, reportGuest, startsInRealMode, wantsTestPorts } from "../../../kernel/guest/load";
export * from "../../../kernel/guest/describe";
export * from "../../../kernel/guest/config";
export * from "../../../kernel/guest/acpi";
export { setKhz } from "../../../kernel/cpu/tsc";
export { createPlatform } from "../../../kernel/vdev/platform";
export { bootInfo, moduleAt } from "../../../drivers/bootinfo";
export { writeMap } from "../../../kernel/guest/e820";
export { portRead } from "../../../kernel/vdev/bus";
export { serveTimers } from "../../../kernel/vdev/timers";
export { acknowledgePic, picOutput } from "../../../kernel/virq/vpic";
export { acceptsExtInt } from "../../../kernel/virq/vlapic";
