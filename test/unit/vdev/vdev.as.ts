// What the tests of kernel/virq and kernel/vdev call: the modules themselves.
export * from "../../../kernel/virq/vlapic";
export * from "../../../kernel/virq/vtimer";
export * from "../../../kernel/virq/vpic";
export * from "../../../kernel/virq/vioapic";
export * from "../../../kernel/virq/vpit";
export * from "../../../kernel/virq/line";
export * from "../../../kernel/virq/msi";
export { sendIpiToSet } from "../../../kernel/virq/ipi";
export { portRead, portWrite, mmioRead as busRead, mmioWrite as busWrite, isMmio } from "../../../kernel/vdev/bus";
export * from "../../../kernel/vdev/platform";
export * from "../../../kernel/vdev/timers";
export * from "../../../kernel/vdev/kvmclock";
export * from "../../../kernel/vdev/walltime";
export * from "../../../kernel/vdev/console";
export * from "../../../kernel/vdev/vuart";
export * from "../../../kernel/vdev/vpm";
export { setKhz } from "../../../kernel/cpu/tsc";
export * from "../../../kernel/lib/date";
