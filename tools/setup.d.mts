interface Lock {
  packages: Record<string, { version: string; optional?: boolean }>;
}
export const SYSTEM_PACKAGES: [name: string, file: string, use: string][];
export function missingNpmPackages(lock: Lock, installed: Lock | null): string[];
export function missingSystemPackages(exists?: (file: string) => boolean): [name: string, file: string, use: string][];
