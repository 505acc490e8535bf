/** What an operation that the world can refuse returns. OK is zero: `if (status) return status;`. */
export const enum Status {
  OK = 0,
  NO_MEMORY = 1,
  BAD_ADDRESS = 2, // unaligned, beyond the space, or overlapping
  BAD_ARGUMENT = 3,
  WRONG_OWNER = 4, // a frame that belongs to somebody else
  NOT_FOUND = 5,
  BUSY = 6,
  UNSUPPORTED = 7, // the processor or the machine lacks it
  BAD_FORMAT = 8, // a file or a table that is not what it claims to be
  TIMEOUT = 9,
  FULL = 10,
  VM_FAIL = 11, // a VMX instruction failed: see the VM-instruction error field
}
