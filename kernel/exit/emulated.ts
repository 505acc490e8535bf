// What became of an instruction that the core was to execute.

export const enum Emulated {
  DONE = 0, // executed, or a fault is queued for the guest: go on
  UNKNOWN = 1, // not an instruction that the core executes: report and stop
  NO_CODE = 2, // its bytes could not be read (the code changed under us): let the guest try again
}
