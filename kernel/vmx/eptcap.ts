// What this processor's EPT can do. Intel SDM Vol. 3, "VPID and EPT Capabilities".

import { capability, EPT_1G, EPT_2M, EPT_ACCESSED_DIRTY, EPT_EXECUTE_ONLY } from "./capability";

/** log2 of the largest leaf: 30, 21 or 12. */
export function largestLeafLog2(): u32 {
  const caps = capability().eptVpid;
  return (caps & EPT_2M) == 0 ? 12 : (caps & EPT_1G) == 0 ? 21 : 30;
}

export function eptAccessedDirty(): bool {
  return (capability().eptVpid & EPT_ACCESSED_DIRTY) != 0;
}

/** Leaves may be executable and not readable. */
export function executeOnly(): bool {
  return (capability().eptVpid & EPT_EXECUTE_ONLY) != 0;
}
