/** Where things are in the source tree and in the build folder. */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

export const PROFILES = ["release", "debug"] as const;
export type Profile = (typeof PROFILES)[number];

export function buildFolder(profile: Profile): string {
  return join(ROOT, "build", profile);
}

export function elfPath(profile: Profile): string {
  return join(buildFolder(profile), "basalt.elf");
}

export function mapPath(profile: Profile): string {
  return join(buildFolder(profile), "basalt.map.json");
}
