// What the tests of kernel/guest call: the modules themselves.
export * from "../../../kernel/guest/load";
export * from "../../../kernel/guest/describe";
export * from "../../../kernel/guest/config";
export * from "../../../kernel/guest/acpi";
