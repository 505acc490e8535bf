export interface Stamp {
  inputs: string;
  buildId: string;
}
export function inputHash(root: string): string;
export function lastBuild(root: string, profile: string): Stamp | null;
export function upToDate(root: string, profile: string): Stamp | null;
