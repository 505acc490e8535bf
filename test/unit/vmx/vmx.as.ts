// What the tests of kernel/vmx call: the modules themselves.
export { auditControls } from "../../../kernel/vmx/audit";
export { auditGuest } from "../../../kernel/vmx/auditguest";
export { refusedSegment, segmentName } from "../../../kernel/vmx/auditsegment";
export { capability, readCapability } from "../../../kernel/vmx/capability";
export * from "../../../kernel/vmx/event";
export * from "../../../kernel/vmx/debug";
export * from "../../../kernel/vmx/paging";
export * from "../../../kernel/vmx/register";
export * from "../../../kernel/vmx/exit";
export * from "../../../kernel/vmx/apic";
export * from "../../../kernel/vmx/vpid";
export * from "../../../kernel/vcpu/event";
export { detectFeatures } from "../../../kernel/cpu/feature";
export { scratch } from "../../../kernel/cpu/percpu";
