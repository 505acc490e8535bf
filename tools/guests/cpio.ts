/** Writes cpio archives in the "newc" format, which the Linux kernel unpacks as its initial root. */

export interface Entry {
  /** Path without a leading slash. */
  path: string;
  /** Mode bits with the file type, as in stat. */
  mode: number;
  data?: Uint8Array;
  /** Device numbers of a node. */
  major?: number;
  minor?: number;
}

export const directory = (path: string): Entry => ({ path, mode: 0o40755 });
export const file = (path: string, data: Uint8Array | string, mode = 0o755): Entry => ({
  path,
  mode: 0o100000 | mode,
  data: typeof data === "string" ? Buffer.from(data) : data,
});
export const symlink = (path: string, target: string): Entry => ({ path, mode: 0o120777, data: Buffer.from(target) });
export const characterDevice = (path: string, major: number, minor: number): Entry => ({
  path,
  mode: 0o20600,
  major,
  minor,
});

/** The archive of `entries`, in their order. The same entries give the same bytes. */
export function cpio(entries: Entry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, i) => {
    parts.push(...record(entry, i + 1));
  });
  parts.push(...record({ path: "TRAILER!!!", mode: 0 }, 0));
  return Buffer.concat(parts);
}

/** Header of 110 characters, name, data; name and data are padded to four bytes. */
function record(entry: Entry, inode: number): Buffer[] {
  const name = Buffer.from(`${entry.path}\0`);
  const data = Buffer.from(entry.data ?? []);
  const links = (entry.mode & 0o170000) === 0o40000 ? 2 : 1;
  const fields = [
    inode,
    entry.mode,
    0,
    0,
    links,
    0,
    data.length,
    0,
    0,
    entry.major ?? 0,
    entry.minor ?? 0,
    name.length,
    0,
  ];
  const header = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, "0")).join("")}`);
  const head = Buffer.concat([header, name]);
  return [head, padding(head.length), data, padding(data.length)];
}

const padding = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
