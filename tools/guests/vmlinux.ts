/**
 * The ELF file inside a bzImage. Its setup header says where the compressed payload lies; the payload's
 * first bytes say how it is compressed. Linux kernel documentation, "The Linux/x86 Boot Protocol".
 */

import { spawnSync } from "node:child_process";
import { gunzipSync } from "node:zlib";

interface Method {
  name: string;
  magic: number[];
  /** The payload ends with its uncompressed size, which is not part of the format. */
  sizeAppended: boolean;
  unpack: (data: Buffer) => Buffer;
}

const METHODS: Method[] = [
  { name: "gzip", magic: [0x1f, 0x8b], sizeAppended: false, unpack: (data) => gunzipSync(data) },
  { name: "LZ4", magic: [0x02, 0x21, 0x4c, 0x18], sizeAppended: true, unpack: by("lz4", ["-d", "-c"]) },
  {
    name: "XZ",
    magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a],
    sizeAppended: true,
    unpack: by("xz", ["-d", "-c", "--single-stream"]),
  },
  { name: "ZSTD", magic: [0x28, 0xb5, 0x2f, 0xfd], sizeAppended: true, unpack: by("zstd", ["-d", "-c"]) },
];

function by(command: string, args: string[]): (data: Buffer) => Buffer {
  return (data) => {
    const result = spawnSync(command, args, { input: data, maxBuffer: 1 << 30, stdio: ["pipe", "pipe", "pipe"] });
    if (result.error) throw new Error(`${command} is needed to unpack this kernel: ${result.error.message}`);
    if (result.status !== 0) throw new Error(`${command}: ${result.stderr.toString().trim()}`);
    return result.stdout;
  };
}

/** The kernel's ELF file. Throws if `image` is no bzImage or holds something else. */
export function extractVmlinux(image: Buffer): Buffer {
  if (
    image.length < 0x260 ||
    image.readUInt16LE(0x1fe) !== 0xaa55 ||
    image.toString("latin1", 0x202, 0x206) !== "HdrS"
  ) {
    throw new Error("not a bzImage");
  }
  if (image.readUInt16LE(0x206) < 0x0208) throw new Error("the bzImage is too old to say where its payload is");
  const start = (image[0x1f1] + 1) * 512 + image.readUInt32LE(0x248);
  const end = start + image.readUInt32LE(0x24c);
  if (end > image.length) throw new Error("the bzImage ends within its payload");
  const payload = image.subarray(start, end);
  const method = METHODS.find((m) => m.magic.every((byte, i) => payload[i] === byte));
  if (!method) throw new Error("the bzImage's payload is compressed in an unknown way");
  const elf = method.unpack(method.sizeAppended ? payload.subarray(0, payload.length - 4) : payload);
  if (elf.toString("latin1", 0, 4) !== "\x7fELF") throw new Error("the bzImage does not hold an ELF file");
  return elf;
}
